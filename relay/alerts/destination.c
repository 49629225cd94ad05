/*
 * destination.c - where alerts may be sent
 *
 * Whoever can write a name's DNS record must not be able to make the relay talk
 * to the services inside its network, or to a cloud's metadata.  So it is not
 * the name that is judged but the address, and not one that was looked up
 * before but the one that is connected to (http_client.c asks for each).  Names
 * in "allow" say what the url's host must be; networks say which addresses.
 *
 * All addresses are compared as IPv6, an IPv4 one as ::ffff:a.b.c.d, so that
 * neither spelling gets around the other's rule.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "alerts/destination.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ADDRESS_BYTES 16
#define V4_BITS		  96 /* before the 32 of an IPv4 address */

typedef struct Network
{
	uint8_t	 address[ADDRESS_BYTES];
	unsigned bits; /* that count */
} Network;

/* ---- networks ---------------------------------------------------------- */

static void
map_v4(const void *four, uint8_t *address)
{
	memset(address, 0, 10);
	memset(address + 10, 0xff, 2);
	memcpy(address + 12, four, 4);
}

/* 10.0.0.0/8, 10.1.2.3, fd00::/8: an address, with how many bits count. */
static bool
network_parse(const char *text, Network *network)
{
	char			address[INET6_ADDRSTRLEN];
	size_t			len = strcspn(text, "/");
	unsigned		base = 0;
	struct in_addr	v4;
	struct in6_addr v6;

	if (len >= sizeof(address))
		return false;
	memcpy(address, text, len);
	address[len] = '\0';
	if (inet_pton(AF_INET, address, &v4) == 1)
	{
		map_v4(&v4, network->address);
		base = V4_BITS;
	}
	else if (inet_pton(AF_INET6, address, &v6) == 1)
		memcpy(network->address, &v6, ADDRESS_BYTES);
	else
		return false;
	network->bits = 8 * ADDRESS_BYTES;
	if (text[len] == '\0')
		return true;
	text += len + 1;
	if (!isdigit((unsigned char) text[0]) ||
		text[strspn(text, "0123456789")] != '\0' || strlen(text) > 3)
		return false;
	network->bits = base + (unsigned) strtoul(text, NULL, 10);
	return network->bits <= 8 * ADDRESS_BYTES;
}

static bool
network_holds(const Network *network, const uint8_t *address)
{
	unsigned bytes = network->bits / 8;
	unsigned rest = network->bits % 8;

	Assert(network->bits <= 8 * ADDRESS_BYTES);
	if (memcmp(network->address, address, bytes) != 0)
		return false;
	return rest == 0 ||
		   (network->address[bytes] ^ address[bytes]) >> (8 - rest) == 0;
}

static bool
is_in(const char *text, const uint8_t *address)
{
	Network network;

	return network_parse(text, &network) && network_holds(&network, address);
}

/*
 * What IANA's registries of special addresses have as not globally reachable,
 * and addresses that stand for another one: those are judged by nobody.
 */
static bool
is_public(const uint8_t *address)
{
	static const char *const special[] =
		{
			"0.0.0.0/8",	  "10.0.0.0/8",
			"100.64.0.0/10",  "127.0.0.0/8",
			"169.254.0.0/16", "172.16.0.0/12",
			"192.0.0.0/24",	  "192.0.2.0/24",
			"192.88.99.0/24", "192.168.0.0/16",
			"198.18.0.0/15",  "198.51.100.0/24",
			"203.0.113.0/24", "224.0.0.0/3",
			"168.63.129.16", /* a cloud's own services, inside each machine */
			"2001::/23",	  "2001:db8::/32",
			"2002::/16",	  "3fff::/20",
		};

	/* all of IPv6 that is given out for the world is in 2000::/3 */
	if (!is_in("::ffff:0:0/96", address) && !is_in("2000::/3", address))
		return false;
	for (size_t i = 0; i < Lengthof(special); i++)
		if (is_in(special[i], address))
			return false;
	return true;
}

static bool
is_network(const char *item)
{
	Network network;

	return network_parse(item, &network);
}

bool
webhook_allows(char *const *allow, const struct sockaddr *address)
{
	uint8_t bytes[ADDRESS_BYTES];
	bool	listed = false;

	if (address->sa_family == AF_INET)
		map_v4(&((const struct sockaddr_in *) (const void *) address)->sin_addr,
			   bytes);
	else if (address->sa_family == AF_INET6)
		memcpy(bytes,
			   &((const struct sockaddr_in6 *) (const void *) address)
					->sin6_addr,
			   sizeof(bytes));
	else
		return false;
	for (; *allow != NULL; allow++)
	{
		if (is_in(*allow, bytes))
			return true;
		listed |= is_network(*allow);
	}
	return !listed && is_public(bytes);
}

/* ---- the configuration ------------------------------------------------- */

static bool
is_host(const char *name)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyz"
								"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
	size_t			  len = strlen(name);

	/* the last part of a name is no number: that would be an address */
	return len <= 253 && strspn(name, legal) == len &&
		   strspn(name, "0123456789.") != len;
}

static bool
check_allow(char *const *allow, Buf *error)
{
	for (; *allow != NULL; allow++)
		if (!is_network(*allow) && !is_host(*allow))
		{
			buf_printf(error,
					   "\"allow\" in [webhook] holds \"%s\", which is neither "
					   "a host nor a network such as 10.1.0.0/16",
					   *allow);
			return false;
		}
	return true;
}

/* Where names are listed, the host must be one of them. */
static bool
host_is_allowed(char *const *allow, const char *host)
{
	bool named = false;

	for (; *allow != NULL; allow++)
	{
		if (is_network(*allow))
			continue;
		if (strcasecmp(*allow, host) == 0)
			return true;
		named = true;
	}
	return !named;
}

static const char *
url_fault(const Config *config, CURLU *url)
{
	const char *fault = NULL;
	char	   *scheme = NULL;
	char	   *host = NULL;
	char	   *user = NULL;

	if (curl_url_set(url, CURLUPART_URL, config->webhook_url,
					 CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
		curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
		curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK)
		fault = "is not a URL such as https://hooks.example.com/path";
	else if (strcmp(scheme, "https") != 0 &&
			 (strcmp(scheme, "http") != 0 || !config->webhook_allow_http))
		fault = "must begin with https://";
	else if (curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_OK)
		fault = "must not hold a user name";
	else if (!host_is_allowed(config->webhook_allow, host))
		fault = "has a host that \"allow\" does not name";
	curl_free(scheme);
	curl_free(host);
	curl_free(user);
	return fault;
}

bool
webhook_check(const Config *config, Buf *error)
{
	CURLU	   *url;
	const char *fault;

	if (!check_allow(config->webhook_allow, error))
		return false;
	if (config->webhook_ca[0] != '\0' && access(config->webhook_ca, R_OK) != 0)
	{
		buf_printf(error, "\"ca\" in [webhook]: cannot read \"%s\"",
				   config->webhook_ca);
		return false;
	}
	if (config->webhook_url[0] == '\0')
		return true;
	url = curl_url();
	Assert(url != NULL);
	fault = url_fault(config, url);
	curl_url_cleanup(url);
	if (fault != NULL)
		buf_printf(error, "\"url\" in [webhook] %s", fault);
	return fault == NULL;
}
