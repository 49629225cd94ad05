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

/* Appends the next step, a phrase.  setting: the one that names the authorities
 * to trust. */
void certificate_advise(int verdict, const char *setting, Buf *to);

#endif
