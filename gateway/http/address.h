/*
 * address.h - where connections come from, and what each address has of them
 *
 * An address is one of IPv4, or a network of 64 bits of IPv6, of which a client
 * has all; every Unix socket's client is of one address.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_ADDRESS_H
#define PGSTOCK_GATEWAY_ADDRESS_H

#include <sys/socket.h>

#include "common/util.h"

#define ADDRESS_BUCKETS 1024

typedef struct AddressKey
{
	unsigned char family;
	unsigned char bytes[8];
} AddressKey;

typedef struct Address
{
	AddressKey		key;
	unsigned		connections;
	unsigned		unserved; /* of them: no whole request yet (client.h) */
	unsigned		waiting;  /* requests, for their answers */
	struct Address *next;	  /* in its bucket */
} Address;

typedef struct AddressTable
{
	Address *buckets[ADDRESS_BUCKETS];
} AddressTable;

/* The address has one connection more, or one less: the last frees it. */
Address *address_open(AddressTable *table, const struct sockaddr *from);
void	 address_close(AddressTable *table, Address *address);

#endif
