/*
 * certificate.h - what is wrong with a server's certificate, and what to do
 *
 * OpenSSL's verdict is a number.  librdkafka and libpq report "certificate
 * verify failed", whatever it is.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_CERTIFICATE_H
#define PGSTOCK_COMMON_CERTIFICATE_H

#include <openssl/x509.h>

#include "common/util.h"

/* Appends the verdict, and the certificate that it is about, if any. */
void certificate_describe(int verdict, X509 *certificate, Buf *to);

/*
 * Appends the next step, a phrase.  trusted, revoked: the settings that name
 * the authorities to trust, and their lists of revoked certificates.
 */
void certificate_advise(int verdict, const char *trusted, const char *revoked,
						Buf *to);

#endif
