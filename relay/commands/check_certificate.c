/*
 * check_certificate.c - why the certificate of PostgreSQL's server is refused
 *
 * libpq reports "certificate verify failed", whether it has expired or is of an
 * unknown authority, and keeps OpenSSL's verdict to itself.  So the handshake
 * is done once more, by OpenSSL alone, up to that verdict.  Nothing is sent but
 * the request for TLS.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "commands/check_parts.h"
#include "common/certificate.h"

#define CERTIFICATE_WAIT_S 5 /* each read and write */
#define SSL_REQUEST_CODE   80877103

typedef struct Verdict
{
	int number; /* X509_V_OK: none */
	Buf text;
} Verdict;

/* ---- the connection ---------------------------------------------------- */

static int
certificate_connect(const char *host, const char *port)
{
	const struct timeval limit = {.tv_sec = CERTIFICATE_WAIT_S};
	struct addrinfo		*found = NULL;
	int					 fd = -1;

	if (getaddrinfo(host, port, &(struct addrinfo){.ai_socktype = SOCK_STREAM},
					&found) != 0)
		return -1;
	for (struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next)
	{
		fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		(void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		(void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		if (connect(fd, at->ai_addr, at->ai_addrlen) != 0)
		{
			(void) close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(found);
	return fd;
}

/* PostgreSQL's request for TLS: a length and a number. */
static bool
certificate_request_tls(int fd)
{
	const uint32_t request[] = {htonl(2 * sizeof(uint32_t)),
								htonl(SSL_REQUEST_CODE)};
	char		   answer = 'N';

	return send(fd, request, sizeof(request), MSG_NOSIGNAL) ==
			   (ssize_t) sizeof(request) &&
		   recv(fd, &answer, 1, 0) == 1 && answer == 'S';
}

/* ---- the verdict ------------------------------------------------------- */

static int
certificate_judge(int good, X509_STORE_CTX *store)
{
	int		 index = SSL_get_ex_data_X509_STORE_CTX_idx();
	SSL		*ssl = X509_STORE_CTX_get_ex_data(store, index);
	Verdict *verdict = SSL_get_app_data(ssl);

	if (!good && verdict->number == X509_V_OK)
	{
		verdict->number = X509_STORE_CTX_get_error(store);
		certificate_describe(verdict->number,
							 X509_STORE_CTX_get_current_cert(store),
							 &verdict->text);
	}
	return good;
}

static bool
certificate_load(SSL_CTX *context, const char *authorities, const char *revoked)
{
	X509_STORE *store = SSL_CTX_get_cert_store(context);

	if (SSL_CTX_load_verify_file(context, authorities) != 1)
		return false;
	if (revoked == NULL || X509_STORE_load_file(store, revoked) != 1)
		return true;
	X509_STORE_set_flags(store,
						 X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return true;
}

static void
certificate_shake_hands(int fd, const char *authorities, const char *revoked,
						Verdict *verdict)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL		*ssl = NULL;

	if (context != NULL && certificate_load(context, authorities, revoked))
	{
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER, certificate_judge);
		ssl = SSL_new(context);
	}
	if (ssl != NULL && SSL_set_fd(ssl, fd) == 1)
	{
		SSL_set_app_data(ssl, verdict);
		(void) SSL_connect(ssl);
	}
	SSL_free(ssl);
	SSL_CTX_free(context);
}

/* ---- the question ------------------------------------------------------ */

static const char *
certificate_option(const PQconninfoOption *options, const char *keyword)
{
	for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return o->val;
	return NULL;
}

static char *
certificate_authorities(const PQconninfoOption *options)
{
	const char *file = certificate_option(options, "sslrootcert");
	const char *home = getenv("HOME");

	return file != NULL && file[0] != '\0'
			   ? xstrdup(file)
			   : xasprintf("%s/.postgresql/root.crt", home != NULL ? home : "");
}

bool
check_explain_certificate(const PGconn *pg, Buf *why, Buf *advice)
{
	PQconninfoOption *options = PQconninfo((PGconn *) (uintptr_t) pg);
	const char		 *address = PQhostaddr(pg);
	const char		 *host = PQhost(pg);
	char			 *authorities;
	Verdict			  verdict = {.number = X509_V_OK};
	int				  fd;

	if (options == NULL || host == NULL || host[0] == '\0' || host[0] == '/')
	{
		pg_connection_free_parsed(options);
		return false;
	}
	authorities = certificate_authorities(options);
	fd = certificate_connect(address != NULL && address[0] != '\0' ? address
																   : host,
							 PQport(pg));
	if (fd >= 0 && certificate_request_tls(fd))
		certificate_shake_hands(fd, authorities,
								certificate_option(options, "sslcrl"),
								&verdict);
	if (verdict.number != X509_V_OK)
	{
		buf_printf(why, "%s; sslrootcert = %s", buf_str(&verdict.text),
				   authorities);
		certificate_advise(verdict.number, "sslrootcert", advice);
	}
	if (fd >= 0)
		(void) close(fd);
	free(authorities);
	buf_free(&verdict.text);
	pg_connection_free_parsed(options);
	return verdict.number != X509_V_OK;
}
