/*
 * destination.c - which hosts and addresses a request may be sent to
 *
 * A person who can write a name's DNS record must not be able to make the
 * daemon send requests to services inside its network, or to a cloud's
 * metadata.  So the address is judged rather than the name, and not one that
 * was looked up before but the one that is connected to (http_client.c calls
 * destination_allows() for each).  Hosts in the list say what the URL's host
 * must be; networks say which addresses.
 *
 * All addresses are compared as IPv6, an IPv4 one as ::ffff:a.b.c.d, so that
 * neither spelling gets around the other's rule.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/destination.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_BYTES 16
#define V4_BITS		  96 /* before the 32 of an IPv4 address */

typedef struct Network
{
	uint8_t	 address[ADDRESS_BYTES];
	unsigned bits; /* that count */
} Network;

/* ---- networks ---------------------------------------------------------- */

static void
destination_map_v4(const void *four, uint8_t *address)
{
	memset(address, 0, 10);
	memset(address + 10, 0xff, 2);
	memcpy(address + 12, four, 4);
}

/* 10.0.0.0/8, 10.1.2.3, fd00::/8: an address, with how many bits count. */
static bool
destination_parse(const char *text, Network *network)
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
		destination_map_v4(&v4, network->address);
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
destination_holds(const Network *network, const uint8_t *address)
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
destination_is_in(const char *text, const uint8_t *address)
{
	Network network;

	return destination_parse(text, &network) &&
		   destination_holds(&network, address);
}

/*
 * Neither what IANA's registries of special addresses call not globally
 * reachable, nor an address that stands for another one, which this list could
 * not judge.
 */
static bool
destination_is_public(const uint8_t *address)
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

	/* global IPv6 addresses are in 2000::/3 */
	if (!destination_is_in("::ffff:0:0/96", address) &&
		!destination_is_in("2000::/3", address))
		return false;
	for (size_t i = 0; i < Lengthof(special); i++)
	{
		Network network;
		bool	good = destination_parse(special[i], &network);

		Assert(good); /* or its addresses would count as public */
		if (destination_holds(&network, address))
			return false;
	}
	return true;
}

static bool
destination_is_network(const char *item)
{
	Network network;

	return destination_parse(item, &network);
}

bool
destination_allows(char *const *allow, const struct sockaddr *address)
{
	uint8_t bytes[ADDRESS_BYTES];
	bool	listed = false;

	if (address->sa_family == AF_INET)
	{
		const struct sockaddr_in *v4 = (const void *) address;

		destination_map_v4(&v4->sin_addr, bytes);
	}
	else if (address->sa_family == AF_INET6)
	{
		const struct sockaddr_in6 *v6 = (const void *) address;

		memcpy(bytes, &v6->sin6_addr, sizeof(bytes));
	}
	else
		return false;
	for (; *allow != NULL; allow++)
	{
		if (destination_is_in(*allow, bytes))
			return true;
		listed |= destination_is_network(*allow);
	}
	return !listed && destination_is_public(bytes);
}

/* ---- rules and URLs ---------------------------------------------------- */

static bool
destination_is_host(const char *name)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyz"
								"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
	size_t			  len = strlen(name);

	/* the last part of a name is no number: that would be an address */
	return len <= 253 && strspn(name, legal) == len &&
		   strspn(name, "0123456789.") != len;
}

bool
destination_is_rule(const char *item)
{
	return destination_is_network(item) || destination_is_host(item);
}

/* Where hosts are listed, the URL's must be one of them. */
static bool
destination_allows_host(char *const *allow, const char *host)
{
	bool named = false;

	for (; *allow != NULL; allow++)
	{
		if (destination_is_network(*allow))
			continue;
		if (strcasecmp(*allow, host) == 0)
			return true;
		named = true;
	}
	return !named;
}

const char *
destination_url_fault(const char *text, char *const *allow, bool http)
{
	CURLU	   *url = curl_url();
	const char *fault = NULL;
	char	   *scheme = NULL;
	char	   *host = NULL;
	char	   *user = NULL;

	Assert(url != NULL);
	if (curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) !=
			CURLUE_OK ||
		curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
		curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK)
		fault = "is not a URL such as https://hooks.example.com/path";
	else if (strcmp(scheme, "https") != 0 &&
			 (strcmp(scheme, "http") != 0 || !http))
		fault = "must begin with https://";
	else if (curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_OK)
		fault = "must not hold a user name";
	else if (!destination_allows_host(allow, host))
		fault = "has a host that \"allow\" does not name";
	Assert(fault != NULL || (scheme != NULL && host != NULL && user == NULL));
	curl_free(scheme);
	curl_free(host);
	curl_free(user);
	curl_url_cleanup(url);
	return fault;
}
