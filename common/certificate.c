/*
 * certificate.c - what is wrong with a server's certificate, and what to do
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/certificate.h"

static void
certificate_add_text(BIO *text, Buf *to)
{
	char *data;
	long  len = BIO_get_mem_data(text, &data);

	if (len > 0)
		buf_add(to, data, (size_t) len);
}

void
certificate_describe(int verdict, X509 *certificate, Buf *to)
{
	BIO *text;

	Assert(verdict != X509_V_OK);
	buf_printf(to, "the certificate is refused: %s",
			   X509_verify_cert_error_string(verdict));
	text = certificate != NULL ? BIO_new(BIO_s_mem()) : NULL;
	if (text == NULL)
		return;
	BIO_puts(text, ": subject ");
	X509_NAME_print_ex(text, X509_get_subject_name(certificate), 0,
					   XN_FLAG_RFC2253);
	BIO_puts(text, ", issuer ");
	X509_NAME_print_ex(text, X509_get_issuer_name(certificate), 0,
					   XN_FLAG_RFC2253);
	BIO_puts(text, ", valid until ");
	ASN1_TIME_print(text, X509_get0_notAfter(certificate));
	certificate_add_text(text, to);
	BIO_free(text);
}

void
certificate_advise(int verdict, const char *trusted, const char *revoked,
				   Buf *to)
{
	switch (verdict)
	{
		case X509_V_ERR_CERT_HAS_EXPIRED:
			buf_add_str(to, "renew that certificate on the server, or set this "
							"machine's clock if it is wrong");
			break;
		case X509_V_ERR_CERT_NOT_YET_VALID:
			buf_add_str(to, "set this machine's clock, or wait until the "
							"certificate is valid");
			break;
		case X509_V_ERR_HOSTNAME_MISMATCH:
		case X509_V_ERR_IP_ADDRESS_MISMATCH:
			buf_add_str(to, "connect by a name that the certificate contains, "
							"or have a certificate issued for this name");
			break;
		case X509_V_ERR_CERT_REVOKED:
			buf_add_str(to, "have a new certificate issued for the server: its "
							"authority has revoked this one");
			break;
		case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
		case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
		case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
		case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		case X509_V_ERR_CERT_SIGNATURE_FAILURE:
			buf_printf(to,
					   "set %s to a file with the certificate of the authority "
					   "that issued it",
					   trusted);
			break;
		case X509_V_ERR_UNABLE_TO_GET_CRL:
		case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
		case X509_V_ERR_CRL_SIGNATURE_FAILURE:
			buf_printf(to,
					   "add the list of revoked certificates of the authority "
					   "that issued it to %s, which must have one of each "
					   "authority of the chain",
					   revoked);
			break;
		case X509_V_ERR_CRL_HAS_EXPIRED:
		case X509_V_ERR_CRL_NOT_YET_VALID:
			buf_printf(to,
					   "get a new list of revoked certificates from that "
					   "authority into %s, or set this machine's clock if it "
					   "is wrong",
					   revoked);
			break;
		default:
			buf_printf(to, "see the server's certificate and %s", trusted);
			break;
	}
}
