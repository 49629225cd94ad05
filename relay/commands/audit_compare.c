/*
 * audit_compare.c - what the outbox has against what topics have
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/audit_compare.h"

#include <stdlib.h>
#include <string.h>

#include "extension/protocol/event_header.h"

/* ---- keys -------------------------------------------------------------- */

/*
 * FNV-1a; each part begins with its length, so that two parts cannot be split
 * in another way and give the same hash.
 */
static uint64_t
audit_mix(uint64_t hash, const char *data, size_t len)
{
	for (size_t i = 0; i < sizeof(len); i++)
		hash = (hash ^ ((len >> (8 * i)) & 255)) * UINT64_C(0x100000001b3);
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char) data[i]) * UINT64_C(0x100000001b3);
	return hash;
}

#define SEED UINT64_C(0xcbf29ce484222325)

uint64_t
audit_event_key(Slice topic, const char *id, Slice copy_of)
{
	uint64_t hash = audit_mix(audit_mix(SEED, topic.data, topic.len), id, 16);

	return audit_mix(hash, copy_of.data, copy_of.len);
}

uint64_t
audit_raw_key(Slice topic, Slice key, Slice value, Slice headers)
{
	uint64_t hash = audit_mix(audit_mix(SEED, topic.data, topic.len), key.data,
							  key.len);

	return audit_mix(audit_mix(hash, value.data, value.len), headers.data,
					 headers.len);
}

/* ---- expected, seen, judged -------------------------------------------- */

void
audit_expect(Audit *audit, uint64_t key, bool pending)
{
	Assert(!audit->sorted);
	if (audit->count == audit->size)
	{
		audit->size = Max(audit->size * 2, 4096);
		audit->entries = xrealloc(audit->entries,
								  audit->size * sizeof(AuditEntry));
	}
	audit->entries[audit->count++] = (AuditEntry){
		.key = key,
		.expected = pending ? 0 : 1,
		.pending = pending ? 1 : 0,
	};
}

static int
audit_compare_entries(const void *a, const void *b)
{
	uint64_t x = ((const AuditEntry *) a)->key;
	uint64_t y = ((const AuditEntry *) b)->key;

	return (x > y) - (x < y);
}

void
audit_sort(Audit *audit)
{
	size_t kept = 0;

	Assert(!audit->sorted && audit->count <= audit->size);
	if (audit->count > 0)
		qsort(audit->entries, audit->count, sizeof(AuditEntry),
			  audit_compare_entries);
	for (size_t i = 0; i < audit->count; i++)
	{
		const AuditEntry *entry = &audit->entries[i];

		if (kept > 0 && audit->entries[kept - 1].key == entry->key)
		{
			AuditEntry *same = &audit->entries[kept - 1];

			same->expected = (uint16_t) Min(same->expected + entry->expected,
											UINT16_MAX);
			same->pending = (uint16_t) Min(same->pending + entry->pending,
										   UINT16_MAX);
		}
		else
			audit->entries[kept++] = *entry;
	}
	audit->count = kept;
	audit->sorted = true;
}

void
audit_free(Audit *audit)
{
	free(audit->entries);
	*audit = (Audit){0};
}

static AuditEntry *
audit_find(const Audit *audit, uint64_t key)
{
	const AuditEntry wanted = {.key = key};

	Assert(audit->sorted);
	if (audit->count == 0)
		return NULL;
	return bsearch(&wanted, audit->entries, audit->count, sizeof(AuditEntry),
				   audit_compare_entries);
}

bool
audit_see(Audit *audit, uint64_t key)
{
	AuditEntry *entry = audit_find(audit, key);

	if (entry != NULL)
		entry->seen++;
	return entry != NULL;
}

static AuditVerdict
audit_verdict(const AuditEntry *entry)
{
	uint32_t most = (uint32_t) entry->expected + entry->pending;

	return (AuditVerdict){
		.missing = entry->seen < entry->expected ? entry->expected - entry->seen
												 : 0,
		.doubled = entry->seen > most ? entry->seen - most : 0,
	};
}

AuditVerdict
audit_judge(Audit *audit, uint64_t key)
{
	AuditEntry	*entry = audit_find(audit, key);
	AuditVerdict verdict = {0};

	/* a row that became visible only after the outbox was walked */
	if (entry == NULL)
		return verdict;
	verdict = audit_verdict(entry);
	Assert(verdict.missing == 0 || verdict.doubled == 0);
	entry->seen = entry->expected;
	return verdict;
}

bool
audit_has_faults(const Audit *audit)
{
	for (size_t i = 0; i < audit->count; i++)
	{
		AuditVerdict verdict = audit_verdict(&audit->entries[i]);

		if (verdict.missing > 0 || verdict.doubled > 0)
			return true;
	}
	return false;
}

/* ---- copies ------------------------------------------------------------ */

void
audit_copy_expect(AuditCopies *copies, uint64_t key)
{
	Assert(!copies->sorted);
	if (copies->count == copies->size)
	{
		copies->size = Max(copies->size * 2, 1024);
		copies->entries = xrealloc(copies->entries,
								   copies->size * sizeof(AuditCopy));
	}
	copies->entries[copies->count++] = (AuditCopy){.key = key, .seq = -1};
}

static int
audit_compare_copies(const void *a, const void *b)
{
	uint64_t x = ((const AuditCopy *) a)->key;
	uint64_t y = ((const AuditCopy *) b)->key;

	return (x > y) - (x < y);
}

void
audit_copies_sort(AuditCopies *copies)
{
	size_t kept = 0;

	Assert(!copies->sorted && copies->count <= copies->size);
	if (copies->count > 0)
		qsort(copies->entries, copies->count, sizeof(AuditCopy),
			  audit_compare_copies);
	for (size_t i = 0; i < copies->count; i++)
		if (kept == 0 ||
			copies->entries[kept - 1].key != copies->entries[i].key)
			copies->entries[kept++] = copies->entries[i];
	copies->count = kept;
	copies->sorted = true;
}

void
audit_copies_free(AuditCopies *copies)
{
	free(copies->entries);
	*copies = (AuditCopies){0};
}

static AuditCopy *
audit_find_copy(const AuditCopies *copies, uint64_t key)
{
	const AuditCopy wanted = {.key = key};

	Assert(copies->sorted);
	if (copies->count == 0)
		return NULL;
	return bsearch(&wanted, copies->entries, copies->count, sizeof(AuditCopy),
				   audit_compare_copies);
}

void
audit_copy_see(AuditCopies *copies, uint64_t key, int64_t seq)
{
	AuditCopy *copy = audit_find_copy(copies, key);

	if (copy == NULL)
		return;
	copy->seen = true;
	copy->seq = Max(copy->seq, seq);
}

bool
audit_has_copy(const AuditCopies *copies, uint64_t key, int64_t after)
{
	const AuditCopy *copy = audit_find_copy(copies, key);

	return copy != NULL && copy->seen && (after < 0 || copy->seq > after);
}

/* ---- records ----------------------------------------------------------- */

static bool
audit_slices_equal(Slice a, Slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool
audit_is_ours(const AuditRecord *record, Slice source, Slice incarnation)
{
	return audit_slices_equal(record->source, source) &&
		   (record->incarnation.data == NULL ||
			audit_slices_equal(record->incarnation, incarnation));
}

static int
audit_hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char		 *found = c != '\0' ? strchr(digits, c | 32) : NULL;

	return found != NULL ? (int) (found - digits) : -1;
}

static bool
audit_read_uuid(Slice text, char *id)
{
	size_t digits = 0;

	if (text.len != EVENT_UUID_LEN)
		return false;
	for (size_t i = 0; i < text.len; i++)
	{
		int digit = audit_hex_digit(text.data[i]);

		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (text.data[i] != '-')
				return false;
			continue;
		}
		if (digit < 0)
			return false;
		if (digits % 2 == 0)
			id[digits / 2] = (char) (digit << 4);
		else
			id[digits / 2] |= (char) digit;
		digits++;
	}
	Assert(digits == 32);
	return true;
}

/*
 * In one pass, for there is one for each record.  Of headers of the same name
 * the first counts: those of an application follow ours.
 */
void
audit_read_headers(const rd_kafka_headers_t *headers, AuditRecord *record)
{
	static const char *const names[] = {
		HEADER_CE_ID,		   HEADER_PLAIN_ID,	 HEADER_DEBEZIUM_ID,
		HEADER_REPLAY_OF,	   HEADER_CE_SOURCE, HEADER_CE_SEQUENCE,
		HEADER_CE_INCARNATION,
	};
	Slice		values[Lengthof(names)] = {{NULL, 0}};
	bool		seen[Lengthof(names)] = {false};
	char		seq[EVENT_SEQ_LEN + 1] = "";
	const char *name;
	const void *value;
	size_t		len;

	*record = (AuditRecord){.seq = -1};
	if (headers == NULL)
		return;
	for (size_t i = 0;
		 rd_kafka_header_get_all(headers, i, &name, &value, &len) == 0; i++)
		for (size_t n = 0; n < Lengthof(names); n++)
			if (!seen[n] && strcmp(name, names[n]) == 0)
			{
				seen[n] = true;
				values[n] = (Slice){value, value != NULL ? len : 0};
			}
	for (size_t n = 0; n < 3 && !record->has_id; n++)
		record->has_id = audit_read_uuid(values[n], record->id);
	record->copy_of = values[3];
	record->source = values[4];
	record->incarnation = values[6];
	if (values[5].len == EVENT_SEQ_LEN)
		memcpy(seq, values[5].data, EVENT_SEQ_LEN);
	if (!parse_number(seq, &record->seq))
		record->seq = -1;
}

/* ---- retention --------------------------------------------------------- */

bool
audit_may_be_removed(const AuditPartition *partitions, size_t count,
					 Slice topic, int64_t seq)
{
	for (size_t i = 0; i < count; i++)
		if (partitions[i].low > 0 && seq < partitions[i].first_seq &&
			strlen(partitions[i].topic) == topic.len &&
			memcmp(partitions[i].topic, topic.data, topic.len) == 0)
			return true;
	return false;
}
