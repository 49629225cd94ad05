/*
 * outbox_fixture.h - an outbox pump whose database, producer and clock are the
 * test
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_FIXTURE_H
#define PGSTOCK_OUTBOX_FIXTURE_H

#include "unit.h"

#include "outbox/state.h"

#define IN_FLIGHT_MAX 16384
#define EPOCH		  7
#define PAGE_ROWS	  64

static OutboxState outbox;
static int64_t	   now;

static inline int
begin(void **state UNUSED)
{
	outbox_state_init(&outbox, IN_FLIGHT_MAX, false, 1);
	outbox.page_rows_max = PAGE_ROWS;
	now = 1000 * SEC_US;
	return 0;
}

static inline int
end(void **state UNUSED)
{
	outbox_state_fini(&outbox);
	return 0;
}

/* A macro, so that a failure names the line of the test. */
#define expect(action)		assert_int_equal(outbox_next(&outbox, now), action)
#define expect_deadline(at) assert_true(outbox_deadline(&outbox) == (at))

/* ---- ways to get somewhere --------------------------------------------- */

static inline void
open_producer(void)
{
	expect(OUTBOX_NEW_PRODUCER);
	outbox_on_producer_up(&outbox, now);
}

static inline void
connect_and_greet(void)
{
	expect(OUTBOX_CONNECT);
	expect(OUTBOX_WAIT);
	outbox_on_connected(&outbox, now);
	for (OutboxAction step = OUTBOX_ASK_HELLO; step <= OUTBOX_ASK_TOPICS;
		 step++)
	{
		expect(step);
		expect(OUTBOX_WAIT);
		outbox_on_step_done(&outbox, now);
	}
}

static inline void
lead(void)
{
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&outbox, EPOCH, now);
	expect(OUTBOX_ASK_HELD);
	outbox_on_held(&outbox);
	expect(OUTBOX_ASK_POSITION);
}

/* Streaming, with the position at the end of "w0". */
static inline void
stream(void)
{
	open_producer();
	connect_and_greet();
	lead();
	outbox_on_position(&outbox, "w0", 0, true, now);
}

static inline void
open_window(const char *window)
{
	outbox_on_wake(&outbox);
	expect(OUTBOX_LOOK);
	assert_true(outbox_on_window(&outbox, window));
}

/*
 * As after a look that found nothing, while no transaction is about to commit.
 */
static inline void
doze(void)
{
	outbox.asleep = true;
	outbox.vain = OUTBOX_VAIN_LOOKS;
	outbox.poll_at = now + outbox.poll_us;
}

static inline void
look_in_vain(void)
{
	for (int i = 0; i < OUTBOX_VAIN_LOOKS; i++)
	{
		expect(OUTBOX_LOOK);
		assert_true(outbox_on_window(&outbox, "w1"));
		assert_false(outbox_on_page(&outbox, 0, 0, 0));
		expect(OUTBOX_WAIT);
		expect_deadline(now + (OUTBOX_AWAKE_US << i));
		now += OUTBOX_AWAKE_US << i;
	}
}

/* A page of rows of 100 bytes; the last has that seq. */
static inline void
take_page(uint32_t rows, int64_t last_seq)
{
	if (outbox.asked == OUTBOX_WAIT) /* the first comes with the window */
		expect(OUTBOX_ASK_PAGE);
	assert_int_equal(outbox_on_page(&outbox, rows, (size_t) rows * 100,
									last_seq),
					 rows > 0);
}

/* Produces the oldest page, whose first row has that seq; the first id. */
static inline uint64_t
produce_page(int64_t first_seq)
{
	uint64_t id = in_flight_next_id(&outbox.in_flight);
	bool	 done = false;

	for (int64_t row = 0; !done; row++)
	{
		assert_int_equal(outbox_row(&outbox), row);
		done = outbox_on_produced(&outbox, first_seq + row, 0, 1, now);
	}
	return id;
}

/*
 * Produces a window of that many rows, seq from 1 on, and then idles; returns
 * the first id.
 */
static inline uint64_t
fly_window(const char *window, uint32_t rows)
{
	uint64_t	 first = in_flight_next_id(&outbox.in_flight);
	uint32_t	 read = 0;
	uint32_t	 sent = 0;
	OutboxAction action;

	open_window(window);
	do
	{
		uint32_t page = Min(rows - read, outbox.page_rows);

		if (outbox.asked == OUTBOX_LOOK || outbox.asked == OUTBOX_ASK_PAGE)
		{
			read += page;
			take_page(page, read);
		}
		action = outbox_next(&outbox, now);
		if (action == OUTBOX_PRODUCE)
		{
			page = outbox.pages[0].rows;
			produce_page(sent + 1);
			sent += page;
		}
		else if (action != OUTBOX_WAIT)
			assert_int_equal(action, OUTBOX_ASK_PAGE);
	} while (action != OUTBOX_WAIT);
	assert_int_equal(sent, rows);
	doze();
	return first;
}

static inline void
ack(uint64_t id)
{
	assert_true(in_flight_ack(&outbox.in_flight, id) >= 0);
	outbox_on_acked(&outbox, now);
}

static inline void
ack_all(uint64_t first)
{
	while (first < in_flight_next_id(&outbox.in_flight))
		ack(first++);
}

static inline void
expect_stored(const char *window, int64_t seq, bool finished)
{
	expect(OUTBOX_STORE);
	assert_string_equal(outbox.storing.window, window);
	assert_true(outbox.storing.seq == seq);
	assert_int_equal(outbox.storing.finished, finished);
	outbox_on_stored(&outbox, false, now);
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)

#endif
