/*
 * test_audit_compare.c - finds events that are missing, doubled or expired
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "commands/audit_compare.h"

#define SLICE(text) ((Slice){text, sizeof(text) - 1})
#define NONE		((Slice){NULL, 0})

static void
events_are_told_apart(void **state UNUSED)
{
	char	 id[16] = "0123456789abcdef";
	char	 other[16] = "0123456789abcdeg";
	uint64_t key = audit_event_key(SLICE("t"), id, NONE);

	assert_true(key == audit_event_key(SLICE("t"), id, NONE));
	assert_true(key != audit_event_key(SLICE("t"), other, NONE));
	assert_true(key != audit_event_key(SLICE("u"), id, NONE));
	assert_true(key != audit_event_key(SLICE("t"), id, SLICE("1")));
	key = audit_raw_key(SLICE("t"), SLICE("ab"), SLICE("c"), NONE);
	assert_true(key !=
				audit_raw_key(SLICE("t"), SLICE("a"), SLICE("bc"), NONE));
	assert_true(key !=
				audit_raw_key(SLICE("t"), SLICE("ab"), NONE, SLICE("c")));
	assert_true(key == audit_raw_key(SLICE("t"), SLICE("ab"), SLICE("c"),
									 (Slice){"", 0}));
}

static void
expect_verdict(Audit *audit, uint64_t key, uint32_t missing, uint32_t doubled)
{
	AuditVerdict verdict = audit_judge(audit, key);

	assert_int_equal(verdict.missing, missing);
	assert_int_equal(verdict.doubled, doubled);
}

static void
see(Audit *audit, uint64_t key, int times)
{
	for (int i = 0; i < times; i++)
		assert_true(audit_see(audit, key));
}

static void
missing_and_doubled(void **state UNUSED)
{
	Audit audit = {0};

	/* keys 1 .. 6 are rows; 5 is pending, 6 is there twice */
	for (uint64_t key = 6; key >= 1; key--)
		audit_expect(&audit, key, key == 5);
	audit_expect(&audit, 6, false);
	audit_sort(&audit);
	assert_int_equal(audit.count, 6);
	assert_false(audit_see(&audit, 7));
	see(&audit, 1, 1);
	see(&audit, 3, 2);
	see(&audit, 4, 4);
	see(&audit, 6, 2);
	assert_true(audit_has_faults(&audit));
	expect_verdict(&audit, 1, 0, 0);
	expect_verdict(&audit, 2, 1, 0);
	expect_verdict(&audit, 2, 0, 0); /* reported once */
	expect_verdict(&audit, 3, 0, 1);
	expect_verdict(&audit, 4, 0, 3);
	expect_verdict(&audit, 4, 0, 0);
	expect_verdict(&audit, 5, 0, 0);
	expect_verdict(&audit, 6, 0, 0);
	expect_verdict(&audit, 7, 0, 0); /* written since */
	assert_false(audit_has_faults(&audit));
	see(&audit, 5, 1);
	assert_false(audit_has_faults(&audit));
	see(&audit, 5, 1);
	expect_verdict(&audit, 5, 0, 1);
	see(&audit, 6, 1);
	expect_verdict(&audit, 6, 0, 1);
	audit_free(&audit);
}

/* Events lost or doubled at random are all found, and no others. */
static void
many(void **state UNUSED)
{
	enum
	{
		ROWS = 20000
	};
	static uint8_t times[ROWS];
	Audit		   audit = {0};
	uint64_t	   key_of = 0;

	begin_dice("audit");
	key_of = roll();
	for (uint64_t i = 0; i < ROWS; i++)
		audit_expect(&audit, (i ^ key_of) * UINT64_C(0x9e3779b97f4a7c15),
					 false);
	audit_sort(&audit);
	for (uint64_t i = 0; i < ROWS; i++)
	{
		times[i] = (uint8_t) (one_in(50) ? below(4) : 1);
		see(&audit, (i ^ key_of) * UINT64_C(0x9e3779b97f4a7c15), times[i]);
	}
	for (uint64_t i = 0; i < ROWS; i++)
		expect_verdict(&audit, (i ^ key_of) * UINT64_C(0x9e3779b97f4a7c15),
					   times[i] == 0, (uint32_t) Max(times[i], 1) - 1);
	audit_free(&audit);
}

static void
nothing_at_all(void **state UNUSED)
{
	Audit audit = {0};

	audit_sort(&audit);
	assert_false(audit_see(&audit, 1));
	assert_false(audit_has_faults(&audit));
	audit_free(&audit);
}

/* ---- records ----------------------------------------------------------- */

static void
expect_record(const char *name, const char *value, bool has_id, int64_t seq)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(1);
	AuditRecord			record;

	rd_kafka_header_add(headers, name, -1, value, -1);
	audit_read_headers(headers, &record);
	assert_int_equal(record.has_id, has_id);
	assert_int_equal(record.seq, seq);
	if (has_id)
		assert_memory_equal(record.id,
							"\x01\x23\x45\x67\x89\xab\xcd\xef"
							"\x01\x23\x45\x67\x89\xab\xcd\xef",
							16);
	rd_kafka_headers_destroy(headers);
}

static void
headers_say_who(void **state UNUSED)
{
	static const char id[] = "01234567-89ab-cdef-0123-456789abcdef";
	AuditRecord		  record;

	expect_record("ce_id", id, true, -1);
	expect_record("event_id", id, true, -1);
	expect_record("id", "01234567-89AB-CDEF-0123-456789ABCDEF", true, -1);
	expect_record("other", id, false, -1);
	expect_record("ce_id", "01234567-89ab-cdef-0123-456789abcde", false, -1);
	expect_record("ce_id", "01234567-89ab-cdef-0123-456789abcdeg", false, -1);
	expect_record("ce_id", "01234567089ab-cdef-0123-456789abcdef", false, -1);
	expect_record("ce_id", NULL, false, -1);
	expect_record("ce_sequence", "00000000000000000042", false, 42);
	expect_record("ce_sequence", "42", false, -1);
	expect_record("ce_sequence", "0000000000000000004x", false, -1);
	expect_record("ce_sequence", "99999999999999999999", false, -1);
	audit_read_headers(NULL, &record);
	assert_false(record.has_id);
	assert_int_equal(record.seq, -1);
}

/* An application's own header stands behind pgstock's and replaces none. */
static void
first_header_counts(void **state UNUSED)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(4);
	AuditRecord			record;

	rd_kafka_header_add(headers, "ce_sequence", -1, "00000000000000000042", -1);
	rd_kafka_header_add(headers, "ce_incarnation", -1, "ours", -1);
	rd_kafka_header_add(headers, "ce_incarnation", -1, "another", -1);
	rd_kafka_header_add(headers, "ce_sequence", -1, "00000000000000000001", -1);
	audit_read_headers(headers, &record);
	assert_int_equal(record.seq, 42);
	assert_int_equal(record.incarnation.len, 4);
	assert_memory_equal(record.incarnation.data, "ours", 4);
	rd_kafka_headers_destroy(headers);
}

/*
 * A replayed event counts as present although its record is lost; a lost copy
 * needs a later copy.
 */
static void
a_copy_stands_for_what_was_lost(void **state UNUSED)
{
	AuditCopies copies = {0};

	audit_copies_sort(&copies);
	assert_false(audit_has_copy(&copies, 1, -1));
	audit_copies_free(&copies);
	audit_copy_expect(&copies, 2);
	audit_copy_expect(&copies, 1);
	audit_copy_expect(&copies, 2);
	audit_copies_sort(&copies);
	assert_int_equal(copies.count, 2);
	assert_false(audit_has_copy(&copies, 1, -1));
	audit_copy_see(&copies, 1, 40);
	audit_copy_see(&copies, 1, 30);
	audit_copy_see(&copies, 3, 30);
	assert_true(audit_has_copy(&copies, 1, -1));
	assert_true(audit_has_copy(&copies, 1, 39));
	assert_false(audit_has_copy(&copies, 1, 40));
	assert_false(audit_has_copy(&copies, 2, -1));
	assert_false(audit_has_copy(&copies, 3, -1));
	audit_copy_see(&copies, 2, -1); /* a raw one has no seq */
	assert_true(audit_has_copy(&copies, 2, -1));
	assert_false(audit_has_copy(&copies, 2, 0));
	audit_copies_free(&copies);
}

static void
a_database_of_the_same_name_is_another(void **state UNUSED)
{
	AuditRecord record = {.source = SLICE("/pgstock/shop"),
						  .incarnation = SLICE("1f")};

	assert_true(audit_is_ours(&record, SLICE("/pgstock/shop"), SLICE("1f")));
	assert_false(audit_is_ours(&record, SLICE("/pgstock/shop"), SLICE("2e")));
	assert_false(audit_is_ours(&record, SLICE("/pgstock/mall"), SLICE("1f")));
	record.incarnation = (Slice){"", 0};
	assert_false(audit_is_ours(&record, SLICE("/pgstock/shop"), SLICE("1f")));
	record.incarnation = NONE; /* it names none */
	assert_true(audit_is_ours(&record, SLICE("/pgstock/shop"), SLICE("1f")));
	record.source = NONE;
	assert_false(audit_is_ours(&record, SLICE("/pgstock/shop"), SLICE("1f")));
}

static void
retention_removes_what_came_before(void **state UNUSED)
{
	const AuditPartition partitions[] = {
		{.topic = "a", .low = 0, .first_seq = 1},
		{.topic = "a", .low = 5, .first_seq = 20},
		{.topic = "b", .low = 0, .first_seq = 30},
		{.topic = "c", .low = 9, .first_seq = INT64_MAX},
	};
	size_t count = Lengthof(partitions);

	assert_true(audit_may_be_removed(partitions, count, SLICE("a"), 19));
	assert_false(audit_may_be_removed(partitions, count, SLICE("a"), 20));
	assert_false(audit_may_be_removed(partitions, count, SLICE("b"), 1));
	assert_true(audit_may_be_removed(partitions, count, SLICE("c"), 1000));
	assert_false(audit_may_be_removed(partitions, count, SLICE("d"), 1));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_are_told_apart),
		cmocka_unit_test(missing_and_doubled),
		cmocka_unit_test(many),
		cmocka_unit_test(nothing_at_all),
		cmocka_unit_test(headers_say_who),
		cmocka_unit_test(first_header_counts),
		cmocka_unit_test(a_copy_stands_for_what_was_lost),
		cmocka_unit_test(a_database_of_the_same_name_is_another),
		cmocka_unit_test(retention_removes_what_came_before),
	};

	return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
