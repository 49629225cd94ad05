/*
 * tls.h - TLS by certificate files, and the certificates of clients
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_TLS_H
#define PGSTOCK_GATEWAY_TLS_H

#include "common/util.h"

struct gnutls_session_int;
struct MHD_OptionItem;

typedef struct TlsFiles
{
	const char *certificate; /* with those between it and the authority */
	const char *key;
	const char *client_ca; /* empty: clients need no certificate */
} TlsFiles;

/*
 * What the files held when they were read.  It lives until the last one that
 * has it gives it back.
 */
typedef struct Tls Tls;

/* NULL, and a sentence in *error, if anything is wrong with a file. */
Tls *tls_load(const TlsFiles *files, Buf *error) MUST_CHECK;
Tls *tls_share(Tls *tls);	/* one more has it */
void tls_release(Tls *tls); /* NULL is fine */

/* How libmicrohttpd is started; NULL: without TLS. */
const struct MHD_OptionItem *tls_options(const Tls *tls);

/* The session, which has not begun, uses it: for as long as it is shared. */
void tls_use(Tls *tls, struct gnutls_session_int *session);

/* When the certificate expires, in seconds since 1970. */
int64_t tls_expires_at(const Tls *tls);

/*
 * Whom the client's certificate is for: the common name of its subject, and its
 * alternative names of the types DNS and URI; for strings_free().  Empty if the
 * client has sent none.  A certificate that is not valid ends the handshake.
 */
char **tls_client_names(struct gnutls_session_int *session);

#endif
