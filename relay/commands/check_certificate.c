/*
 * check_certificate.c - why the certificate of PostgreSQL's server is refused
 *
 * libpq reports "certificate verify failed", whether it has expired or is of an
 * unknown authority, and keeps OpenSSL's verdict to itself.  So the handshake
 * is done once more, by OpenSSL alone, up to that verdict.  Nothing is sent but
 * the request for TLS.  The files are those that libpq uses.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "commands/check_parts.h"
#include "common/certificate.h"
#include "common/conninfo.h"

#define CERTIFICATE_WAIT_S 5 /* each read and write */
#define SSL_REQUEST_CODE   80877103
#define TRUST_SYSTEM	   "system" /* sslrootcert, since libpq 16 */

typedef struct Verdict
{
	int number; /* X509_V_OK: none */
	Buf text;
} Verdict;

/* As conninfo names them, and libpq's defaults. */
typedef struct CertificateFiles
{
	char	   *trusted;	 /* authorities */
	char	   *revoked;	 /* their lists of revoked certificates; or NULL */
	const char *revoked_dir; /* a directory of such lists, or NULL */
	const char *revoked_by;	 /* the setting that names one or the other */
} CertificateFiles;

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

/* Lists that cannot be read are ignored, as by libpq. */
static bool
certificate_load(SSL_CTX *context, const CertificateFiles *files)
{
	X509_STORE *store = SSL_CTX_get_cert_store(context);

	if (strcmp(files->trusted, TRUST_SYSTEM) == 0)
	{
		if (SSL_CTX_set_default_verify_paths(context) != 1)
			return false;
	}
	else if (SSL_CTX_load_verify_file(context, files->trusted) != 1)
		return false;
	if ((files->revoked != NULL || files->revoked_dir != NULL) &&
		X509_STORE_load_locations(store, files->revoked, files->revoked_dir) ==
			1)
		X509_STORE_set_flags(store,
							 X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return true;
}

/*
 * OpenSSL writes without MSG_NOSIGNAL: a server that has closed the connection
 * would end the command by SIGPIPE.
 */
static void
certificate_connect_ssl(SSL *ssl)
{
	void (*before)(int) = signal(SIGPIPE, SIG_IGN);

	(void) SSL_connect(ssl);
	(void) signal(SIGPIPE, before);
}

static void
certificate_shake_hands(int fd, const CertificateFiles *files, Verdict *verdict)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL		*ssl = NULL;

	if (context != NULL && certificate_load(context, files))
	{
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER, certificate_judge);
		ssl = SSL_new(context);
	}
	if (ssl != NULL && SSL_set_fd(ssl, fd) == 1)
	{
		SSL_set_app_data(ssl, verdict);
		certificate_connect_ssl(ssl);
	}
	SSL_free(ssl);
	SSL_CTX_free(context);
}

/* ---- the files --------------------------------------------------------- */

/* NULL: not set, or empty. */
static const char *
certificate_option(const PQconninfoOption *options, const char *keyword)
{
	for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return o->val != NULL && o->val[0] != '\0' ? o->val : NULL;
	return NULL;
}

static char *
certificate_file(const char *named, const char *otherwise)
{
	const char *home = getenv("HOME");

	return named != NULL ? xstrdup(named)
						 : xasprintf("%s/.postgresql/%s",
									 home != NULL ? home : "", otherwise);
}

static CertificateFiles
certificate_files(const PQconninfoOption *options)
{
	const char		*list = certificate_option(options, "sslcrl");
	CertificateFiles files = {
		.trusted = certificate_file(certificate_option(options, "sslrootcert"),
									"root.crt"),
		.revoked_dir = certificate_option(options, "sslcrldir"),
	};

	files.revoked_by = list != NULL || files.revoked_dir == NULL ? "sslcrl"
																 : "sslcrldir";
	if (list != NULL || files.revoked_dir == NULL)
		files.revoked = certificate_file(list, "root.crl");
	Assert(files.revoked != NULL || files.revoked_dir != NULL);
	return files;
}

static void
certificate_report(const CertificateFiles *files, Verdict *verdict, Buf *why,
				   Buf *advice)
{
	Assert(verdict->text.len > 0); /* it came with the number */
	buf_printf(why, "%s; sslrootcert = %s", buf_str(&verdict->text),
			   files->trusted);
	if (files->revoked != NULL && access(files->revoked, F_OK) == 0)
		buf_printf(why, "; sslcrl = %s", files->revoked);
	if (files->revoked_dir != NULL)
		buf_printf(why, "; sslcrldir = %s", files->revoked_dir);
	certificate_advise(verdict->number, "sslrootcert", files->revoked_by,
					   advice);
}

/* ---- the question ------------------------------------------------------ */

bool
check_explain_certificate(const PGconn *pg, Buf *why, Buf *advice)
{
	PQconninfoOption *options = PQconninfo((PGconn *) (uintptr_t) pg);
	const char		 *address = PQhostaddr(pg);
	const char		 *host = PQhost(pg);
	CertificateFiles  files;
	Verdict			  verdict = {.number = X509_V_OK};
	int				  fd;

	if (options == NULL || host == NULL || host[0] == '\0' || host[0] == '/')
	{
		conninfo_free(options);
		return false;
	}
	files = certificate_files(options);
	fd = certificate_connect(address != NULL && address[0] != '\0' ? address
																   : host,
							 PQport(pg));
	if (fd >= 0 && certificate_request_tls(fd))
		certificate_shake_hands(fd, &files, &verdict);
	if (verdict.number != X509_V_OK)
		certificate_report(&files, &verdict, why, advice);
	if (fd >= 0)
		(void) close(fd);
	free(files.trusted);
	free(files.revoked);
	buf_free(&verdict.text);
	conninfo_free(options);
	return verdict.number != X509_V_OK;
}
