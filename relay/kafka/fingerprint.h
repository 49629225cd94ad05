/*
 * fingerprint.h - identifies a record among those that had its offset
 *
 * Pure.  The same as extension/inbox/fingerprint.c makes;
 * docs/relay-protocol.md has its definition.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_FINGERPRINT_H
#define PGSTOCK_KAFKA_FINGERPRINT_H

#include "db/api.h"

#define FINGERPRINT_MAX 32 /* with its final zero */

typedef struct Fingerprint
{
	char text[FINGERPRINT_MAX]; /* "": not known */
} Fingerprint;

Fingerprint fingerprint_of(const ApiMessage *message);

#endif
