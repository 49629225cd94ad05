/*
 * browser.c - requests that a page has its reader's browser send
 *
 * A browser sends the certificate of its user, and reaches the addresses of its
 * machine, whoever wrote the page.  No page can set the headers that are looked
 * at here.
 *
 * A page can have its own name lead to this machine, and is of the same site
 * then (DNS rebinding): but the request has that name.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/browser.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

/* Certificates need TLS. */
#define SCHEME "https://"

bool
browser_is_elsewhere(const HttpRequest *request)
{
	const char *site = http_request_header(request, "Sec-Fetch-Site");
	const char *origin = http_request_header(request, "Origin");
	const char *host = http_request_header(request, "Host");

	/* none: the user has typed the address */
	if (site != NULL && strcmp(site, "same-origin") != 0 &&
		strcmp(site, "none") != 0)
		return true;
	if (origin == NULL)
		return false;
	return host == NULL || strncasecmp(origin, SCHEME, strlen(SCHEME)) != 0 ||
		   strcasecmp(origin + strlen(SCHEME), host) != 0;
}

/* Whether the name, of so many bytes, is localhost or a loopback address. */
static bool
browser_is_this_machine(const char *name, size_t len)
{
	char			text[INET6_ADDRSTRLEN];
	struct in_addr	v4;
	struct in6_addr v6;

	if (len >= sizeof(text))
		return false;
	memcpy(text, name, len);
	text[len] = '\0';
	if (strcasecmp(text, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, text, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
	return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* Digits behind a colon, or nothing. */
static bool
browser_is_port(const char *text)
{
	return *text == '\0' ||
		   (*text == ':' && strspn(text + 1, "0123456789") == strlen(text + 1));
}

bool
browser_names_this_machine(const HttpRequest *request)
{
	const char *host = http_request_header(request, "Host");
	size_t		len;
	uid_t		user;

	if (http_request_peer(request, &user))
		return true;
	if (host == NULL)
		return false;
	if (host[0] != '[')
	{
		len = strcspn(host, ":");
		return browser_is_this_machine(host, len) &&
			   browser_is_port(host + len);
	}
	len = strcspn(host, "]");
	Assert(len > 0); /* the bracket */
	return host[len] == ']' && browser_is_this_machine(host + 1, len - 1) &&
		   browser_is_port(host + len + 1);
}
