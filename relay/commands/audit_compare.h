/*
 * audit_compare.h - what the outbox has against what topics have
 *
 * Pure.  First every row of the outbox is expected, then every record is seen,
 * then each row is judged.  16 bytes for an event, whatever its size: a hash of
 * 64 bits distinguishes events.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_AUDIT_COMPARE_H
#define PGSTOCK_COMMANDS_AUDIT_COMPARE_H

#include "kafka/record.h"

typedef struct AuditEntry
{
	uint64_t key;
	uint16_t expected; /* rows that Kafka has acknowledged */
	uint16_t pending;  /* rows that may be there or not yet */
	uint32_t seen;	   /* records */
} AuditEntry;

typedef struct Audit
{
	AuditEntry *entries;
	size_t		count;
	size_t		size;	/* allocated */
	bool		sorted; /* after audit_sort(): no more may be expected */
} Audit;

/*
 * The identity of an event: its id in its topic; of a copy, also its original;
 * of a raw one, which carries no id, all its parts.
 */
uint64_t audit_event_key(Slice topic, const char *id, Slice copy_of);
uint64_t audit_raw_key(Slice topic, Slice key, Slice value, Slice headers);

void audit_expect(Audit *audit, uint64_t key, bool pending);
void audit_sort(Audit *audit);
void audit_free(Audit *audit);

/* Whether such a record is expected at all; counts it. */
bool audit_see(Audit *audit, uint64_t key) MUST_CHECK;

typedef struct AuditVerdict
{
	uint32_t missing; /* records that should be there */
	uint32_t doubled; /* records that should not */
} AuditVerdict;

/* About a row; a second row of the same event gets no fault. */
AuditVerdict audit_judge(Audit *audit, uint64_t key);

/* Whether anything is not as it should be. */
bool audit_has_faults(const Audit *audit);

/* ---- copies ---- */

/*
 * Made by replay.  An event whose copy is in the topic is there even if its own
 * record is not: the loss was repaired.  A copy has the key of the original.
 */
typedef struct AuditCopy
{
	uint64_t key;
	int64_t	 seq; /* the greatest that was seen; -1: none */
	bool	 seen;
} AuditCopy;

typedef struct AuditCopies
{
	AuditCopy *entries;
	size_t	   count;
	size_t	   size; /* allocated */
	bool	   sorted;
} AuditCopies;

void audit_copy_expect(AuditCopies *copies, uint64_t key);
void audit_copies_sort(AuditCopies *copies);
void audit_copies_free(AuditCopies *copies);
void audit_copy_see(AuditCopies *copies, uint64_t key, int64_t seq);

/* Whether one was seen; where "after" is not negative, one behind that seq. */
bool audit_has_copy(const AuditCopies *copies, uint64_t key, int64_t after);

/* ---- headers of a record ---- */

typedef struct AuditRecord
{
	bool	has_id;
	char	id[16];
	int64_t seq; /* -1: none */
	Slice	copy_of;
	Slice	source;
	Slice	incarnation;
} AuditRecord;

/*
 * Whether this database published it; one of the same name has another
 * incarnation.
 */
bool audit_is_ours(const AuditRecord *record, Slice source, Slice incarnation);

void audit_read_headers(const rd_kafka_headers_t *headers, AuditRecord *record);

/* ---- retention ---- */

/* A partition as it was read. */
typedef struct AuditPartition
{
	const char *topic;
	int32_t		id;
	int64_t		low;	   /* its first offset */
	int64_t		end;	   /* where reading stops */
	int64_t		first_seq; /* of its first record; INT64_MAX: none */
	bool		done;
} AuditPartition;

/*
 * Whether the topic's retention may have removed an event: some partition has
 * lost its beginning, and what it begins with now is later.
 */
bool audit_may_be_removed(const AuditPartition *partitions, size_t count,
						  Slice topic, int64_t seq);

#endif
