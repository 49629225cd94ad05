/*
 * tls.c - TLS by certificate files, and the certificates of clients
 *
 * libmicrohttpd speaks TLS by GnuTLS, but reads certificates only at its start.
 * So each session is given credentials of ours when its connection is opened: a
 * reload takes effect with the next connection, and those that are open keep
 * what they began with.
 *
 * A client need not have a certificate, for its token may say who it is.  One
 * that it does have must be valid, and for clients: a certificate of the same
 * authority for a server is refused.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "http/tls.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"

#define LOG_MODULE "tls"

#define PRIORITIES	   "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define NAMES_MAX	   32
#define NAME_BYTES_MAX 512

struct Tls
{
	int								 sharers;
	gnutls_certificate_credentials_t credentials;
	bool							 asks; /* clients for a certificate */
	int64_t							 expires_at;
	LogThrottle						 refused;
};

/* ---- what clients send ------------------------------------------------- */

static gnutls_alert_description_t
tls_alert(unsigned verdict)
{
	if ((verdict & GNUTLS_CERT_EXPIRED) != 0)
		return GNUTLS_A_CERTIFICATE_EXPIRED;
	if ((verdict & GNUTLS_CERT_SIGNER_NOT_FOUND) != 0)
		return GNUTLS_A_UNKNOWN_CA;
	return GNUTLS_A_BAD_CERTIFICATE;
}

/* libmicrohttpd sends no alert: without one, the client would not know why. */
static void
tls_refuse(Tls *tls, gnutls_session_t session, unsigned verdict)
{
	gnutls_datum_t why = {NULL, 0};

	if (gnutls_certificate_verification_status_print(verdict, GNUTLS_CRT_X509,
													 &why, 0) == 0)
		log_throttled(&tls->refused, clock_monotonic(), LEVEL_WARNING,
					  LOG_MODULE, "refused the certificate of a client: %s",
					  (const char *) why.data);
	gnutls_free(why.data);
	(void) gnutls_alert_send(session, GNUTLS_AL_FATAL, tls_alert(verdict));
}

/* Not 0: the handshake fails. */
static int
tls_verify(gnutls_session_t session)
{
	Tls					 *tls = gnutls_session_get_ptr(session);
	gnutls_typed_vdata_st purpose[] = {{
		.type = GNUTLS_DT_KEY_PURPOSE_OID,
		.data = (unsigned char *) (uintptr_t) GNUTLS_KP_TLS_WWW_CLIENT,
	}};
	unsigned			  count = 0;
	unsigned			  verdict = 0;

	Assert(tls != NULL && tls->sharers > 0 && tls->asks);
	if (gnutls_certificate_get_peers(session, &count) == NULL)
		return 0;
	if (gnutls_certificate_verify_peers(session, purpose, Lengthof(purpose),
										&verdict) != 0)
		verdict = GNUTLS_CERT_INVALID;
	if (verdict == 0)
		return 0;
	tls_refuse(tls, session, verdict);
	return GNUTLS_E_CERTIFICATE_ERROR;
}

static void
tls_add_name(char **names, const char *name, size_t len)
{
	size_t count = strings_count(names);

	Assert(count <= NAMES_MAX);
	/* a NUL byte in it would hide the rest */
	if (count < NAMES_MAX && len > 0 && memchr(name, '\0', len) == NULL)
		names[count] = xasprintf("%.*s", (int) len, name);
}

static void
tls_read_names(gnutls_x509_crt_t certificate, char **names)
{
	char   name[NAME_BYTES_MAX];
	size_t len = sizeof(name);
	int	   type;

	if (gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME,
									  0, 0, name, &len) == 0)
		tls_add_name(names, name, len);
	for (unsigned i = 0; i < NAMES_MAX; i++)
	{
		len = sizeof(name);
		type = gnutls_x509_crt_get_subject_alt_name(certificate, i, name, &len,
													NULL);
		if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			break;
		if (type == GNUTLS_SAN_DNSNAME || type == GNUTLS_SAN_URI)
			tls_add_name(names, name, len);
	}
}

char **
tls_client_names(struct gnutls_session_int *session)
{
	char				**names = xcalloc(NAMES_MAX + 1, sizeof(char *));
	unsigned			  count = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
	gnutls_x509_crt_t	  certificate;

	if (chain == NULL || count == 0 || gnutls_x509_crt_init(&certificate) != 0)
		return names;
	if (gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) ==
		0)
		tls_read_names(certificate, names);
	gnutls_x509_crt_deinit(certificate);
	return names;
}

/* ---- files ------------------------------------------------------------- */

static bool
tls_read(const char *option, const char *path, gnutls_datum_t *text, Buf *error)
{
	errno = 0;
	if (gnutls_load_file(path, text) == 0)
		return true;
	buf_printf(error, "could not read \"%s\" (%s): %s", path, option,
			   strerror(errno));
	return false;
}

static void
tls_forget(gnutls_datum_t *text)
{
	if (text->data != NULL)
		gnutls_memset(text->data, 0, text->size);
	gnutls_free(text->data);
}

static void
tls_read_expiry(Tls *tls)
{
	gnutls_x509_crt_t *chain = NULL;
	unsigned		   count = 0;

	if (gnutls_certificate_get_x509_crt(tls->credentials, 0, &chain, &count) !=
		0)
		return;
	if (count > 0)
		tls->expires_at = gnutls_x509_crt_get_expiration_time(chain[0]);
	for (unsigned i = 0; i < count; i++)
		gnutls_x509_crt_deinit(chain[i]);
	gnutls_free(chain);
}

static bool
tls_load_pair(Tls *tls, const TlsFiles *files, Buf *error)
{
	gnutls_datum_t certificate = {NULL, 0};
	gnutls_datum_t key = {NULL, 0};
	bool		   good;

	good = tls_read("tls_certificate", files->certificate, &certificate,
					error) &&
		   tls_read("tls_key", files->key, &key, error);
	if (good)
	{
		int result = gnutls_certificate_set_x509_key_mem(tls->credentials,
														 &certificate, &key,
														 GNUTLS_X509_FMT_PEM);

		good = result >= 0;
		if (!good)
			buf_printf(error,
					   "\"%s\" and \"%s\" are not a certificate and its key, "
					   "in PEM and without a passphrase: %s",
					   files->certificate, files->key, gnutls_strerror(result));
	}
	tls_forget(&certificate);
	tls_forget(&key);
	if (good)
		tls_read_expiry(tls);
	return good;
}

static bool
tls_load_authority(Tls *tls, const char *path, Buf *error)
{
	gnutls_datum_t text = {NULL, 0};
	bool		   good;

	if (path[0] == '\0')
		return true;
	if (!tls_read("tls_client_ca", path, &text, error))
		return false;
	good = gnutls_certificate_set_x509_trust_mem(tls->credentials, &text,
												 GNUTLS_X509_FMT_PEM) > 0;
	gnutls_free(text.data);
	if (!good)
		buf_printf(error, "there is no certificate in \"%s\" (tls_client_ca)",
				   path);
	gnutls_certificate_set_verify_function(tls->credentials, tls_verify);
	tls->asks = true;
	return good;
}

Tls *
tls_load(const TlsFiles *files, Buf *error)
{
	Tls *tls = xcalloc(1, sizeof(Tls));

	tls->sharers = 1;
	if (gnutls_certificate_allocate_credentials(&tls->credentials) != 0)
	{
		buf_add_str(error, "could not start TLS: out of memory");
		free(tls);
		return NULL;
	}
	if (tls_load_pair(tls, files, error) &&
		tls_load_authority(tls, files->client_ca, error))
		return tls;
	tls_release(tls);
	return NULL;
}

/* ---- who has it -------------------------------------------------------- */

Tls *
tls_share(Tls *tls)
{
	Assert(tls->sharers > 0);
	tls->sharers++;
	return tls;
}

void
tls_release(Tls *tls)
{
	if (tls == NULL)
		return;
	Assert(tls->sharers > 0);
	if (--tls->sharers > 0)
		return;
	gnutls_certificate_free_credentials(tls->credentials);
	free(tls);
}

/* Each session has credentials of its own: this is never called. */
static int
tls_no_certificate(gnutls_session_t session				   UNUSED,
				   const gnutls_datum_t *authorities	   UNUSED,
				   int authority_count					   UNUSED,
				   const gnutls_pk_algorithm_t *algorithms UNUSED,
				   int algorithm_count UNUSED, gnutls_pcert_st **pcert UNUSED,
				   unsigned *pcert_count UNUSED, gnutls_privkey_t *key UNUSED)
{
	return -1;
}

const struct MHD_OptionItem *
tls_options(const Tls *tls)
{
	static const struct MHD_OptionItem none = {MHD_OPTION_END, 0, NULL};
	static const struct MHD_OptionItem options[] = {
		{MHD_OPTION_HTTPS_PRIORITIES, 0, (char *) (uintptr_t) PRIORITIES},
		{MHD_OPTION_HTTPS_CERT_CALLBACK, 0,
		 (void *) (uintptr_t) tls_no_certificate},
		{MHD_OPTION_END, 0, NULL},
	};

	return tls != NULL ? options : &none;
}

void
tls_use(Tls *tls, struct gnutls_session_int *session)
{
	Assert(tls->sharers > 0);
	gnutls_session_set_ptr(session, tls);
	(void) gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE,
								  tls->credentials);
	gnutls_certificate_server_set_request(session, tls->asks
													   ? GNUTLS_CERT_REQUEST
													   : GNUTLS_CERT_IGNORE);
}

int64_t
tls_expires_at(const Tls *tls)
{
	return tls->expires_at;
}
