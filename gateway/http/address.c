/*
 * address.c - where connections come from, and what each address has of them
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "http/address.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static AddressKey
address_key(const struct sockaddr *from)
{
	AddressKey key = {.family = AF_UNIX};

	if (from->sa_family == AF_INET)
	{
		key.family = AF_INET;
		memcpy(key.bytes, &((const struct sockaddr_in *) from)->sin_addr, 4);
	}
	else if (from->sa_family == AF_INET6)
	{
		const struct in6_addr *address = &((const struct sockaddr_in6 *) from)
											  ->sin6_addr;
		bool v4 = IN6_IS_ADDR_V4MAPPED(address);

		key.family = v4 ? AF_INET : AF_INET6;
		memcpy(key.bytes, address->s6_addr + (v4 ? 12 : 0), v4 ? 4 : 8);
	}
	return key;
}

static Address **
address_bucket(AddressTable *table, const AddressKey *key)
{
	uint32_t hash = 2166136261u ^ key->family;

	for (size_t i = 0; i < sizeof(key->bytes); i++)
		hash = (hash ^ key->bytes[i]) * 16777619u;
	return &table->buckets[hash % ADDRESS_BUCKETS];
}

Address *
address_open(AddressTable *table, const struct sockaddr *from)
{
	AddressKey key = address_key(from);
	Address	 **bucket = address_bucket(table, &key);
	Address	  *address = *bucket;

	while (address != NULL && memcmp(&address->key, &key, sizeof(key)) != 0)
		address = address->next;
	if (address == NULL)
	{
		address = xcalloc(1, sizeof(Address));
		address->key = key;
		address->next = *bucket;
		*bucket = address;
	}
	address->connections++;
	return address;
}

void
address_close(AddressTable *table, Address *address)
{
	Address **at = address_bucket(table, &address->key);

	Assert(address->connections > 0);
	if (--address->connections > 0)
		return;
	Assert(address->waiting == 0 && address->unserved == 0);
	while (*at != address)
		at = &(*at)->next;
	*at = address->next;
	free(address);
}
