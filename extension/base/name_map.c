/*-------------------------------------------------------------------------
 *
 * base/name_map.c
 *	  What a call has noted under names: found again without going through all
 *	  of it.
 *
 * A batch may note thousands of names, and look up as many: a list would be
 * quadratic.  A map lives as long as the memory that it was begun in.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"

#include "base/base.h"

#define NAME_MAP_ROOM 64

typedef struct NameEntry
{
	const char *name; /* the key: what it points to */
	void	   *value;
} NameEntry;

static uint32
name_hash(const void *key, Size size)
{
	const char *name = *(const char *const *) key;

	return hash_bytes((const unsigned char *) name, (int) strlen(name));
}

static int
name_match(const void *a, const void *b, Size size)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* What was noted under the name, or NULL; of a map that is not begun too. */
void *
name_map_find(const NameMap *map, const char *name)
{
	NameEntry *entry;

	Assert(name != NULL);
	if (map->entries == NULL)
		return NULL;
	entry = hash_search(map->entries, &name, HASH_FIND, NULL);
	return entry == NULL ? NULL : entry->value;
}

/* Notes a value under a name, in place of what was there.  Keeps both. */
void
name_map_put(NameMap *map, const char *name, void *value)
{
	NameEntry *entry;
	HASHCTL	   control = {
		   .keysize = sizeof(const char *),
		   .entrysize = sizeof(NameEntry),
		   .hash = name_hash,
		   .match = name_match,
		   .hcxt = CurrentMemoryContext,
	   };

	Assert(name != NULL && value != NULL);
	if (map->entries == NULL)
		map->entries = hash_create("names of pgstock", NAME_MAP_ROOM, &control,
								   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE |
									   HASH_CONTEXT);
	entry = hash_search(map->entries, &name, HASH_ENTER, NULL);
	entry->value = value;
}

/* One name for three ids, the first of which may be any bytes. */
char *
name_map_key(const char *a, const char *b, const char *c)
{
	Assert(a != NULL && b != NULL && c != NULL);
	/* Lengths first: no two different ones give the same name. */
	return psprintf("%zu:%zu:%s%s%s", strlen(a), strlen(b), a, b, c);
}
