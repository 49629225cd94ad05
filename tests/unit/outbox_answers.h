/*
 * outbox_answers.h - what the database answers to a relay of the outbox's
 * simulation
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_ANSWERS_H
#define PGSTOCK_OUTBOX_ANSWERS_H

#include "outbox_relay.h"

static inline void
answer_lead(Relay *relay)
{
	int64_t epoch = 0;

	if (world.leader < 0 || world.leader == relay - relays)
	{
		world.leader = (int) (relay - relays);
		epoch = ++world.epoch;
	}
	outbox_on_lead(&relay->state, epoch, world.now);
}

static inline bool
is_as_far(const Position *kafka, const Position *row)
{
	if (kafka->to != row->to)
		return kafka->to > row->to;
	if (kafka->finished != row->finished)
		return kafka->finished;
	return kafka->seq >= row->seq;
}

static inline void
answer_position(Relay *relay)
{
	const Position *row = &world.position;
	const Position *kafka = &relay->producer.position;
	const Position *position = row;
	char		   *window;

	if (kafka->epoch > row->epoch ||
		(kafka->epoch > 0 && kafka->epoch == row->epoch &&
		 is_as_far(kafka, row)))
		position = kafka;
	else
		world.transactions.by_row++;
	window = xasprintf("%u-%u", position->from, position->to);
	outbox_on_position(&relay->state, window, position->seq, position->finished,
					   world.now);
	free(window);
}

/*
 * A transaction of the session ends that neither falls asleep nor writes: it
 * releases the hint lock.
 */
static inline void
release_hint_lock(Relay *relay)
{
	if (world.sleeper != relay - relays)
		return;
	world.sleeper = -1;
	relay->message = true;
}

static inline bool
a_commit_is_silent(void)
{
	for (int i = 0; i < OPEN_MAX; i++)
		if (world.open[i].stage == STAGE_SILENT)
			return true;
	return false;
}

/* First the lock, and some time after it the snapshot. */
static inline void
answer_sleep(Relay *relay)
{
	Question *question = &relay->question;
	int		  me = (int) (relay - relays);
	bool	  found;
	bool	  read;
	char	 *window;

	if (!question->begun)
	{
		question->begun = true;
		if (a_commit_is_silent())
			world.counts.in_the_way++;
		else
			world.sleeper = me;
		return;
	}
	found = world.commit_ends[question->position.to] < world.committed_count;
	world.counts.found += found;
	if (found && world.sleeper == me)
		world.sleeper = -1;
	world.counts.sleeps += world.sleeper == me;
	window = xasprintf("%u-%u", question->position.to, world.commits);
	/* a notification arrives with the answer, and is read before it */
	read = relay->notified && one_in(2);
	if (read)
		outbox_on_wake(&relay->state);
	outbox_on_sleep(&relay->state, window, world.sleeper == me, world.now);
	free(window);
	if (!read)
		return;
	relay->notified = false;
	if (world.sleeper == me)
		world.sleeper = -1;
}

static inline void
answer_page(Relay *relay)
{
	/* now and then the rows are large, and a few make a page */
	uint32_t few = one_in(8) ? 1U + one_in(2) : UINT32_MAX;
	Page	 page = read_page(&relay->question.position,
							  Min(relay->question.rows, few));

	if (outbox_on_page(&relay->state, page.rows,
					   page.rows == few ? OUTBOX_PAGE_BYTES : 100,
					   page.rows > 0 ? page.seqs[page.rows - 1] : 0))
		relay->pages[relay->page_count++] = page;
}

static inline void
answer_look(Relay *relay)
{
	char *window = xasprintf("%u-%u", relay->question.position.to,
							 world.commits);

	if (outbox_on_window(&relay->state, window))
	{
		relay->question.position = parse_window(window);
		answer_page(relay);
	}
	free(window);
}

static inline void
answer_held(Relay *relay)
{
	for (uint32_t topic = 0; topic < TOPICS; topic++)
		if (held_world.topics[topic])
			held_load(&relay->state.held,
					  (char[]){'t', (char) ('0' + topic), 0}, "no", world.now);
	outbox_on_held(&relay->state);
}

static inline void
answer_held_page(Relay *relay)
{
	HeldPage page = read_held(relay->question.held.topic, relay->question.rows);

	if (outbox_on_held_page(&relay->state, page.rows,
							page.rows == HELD_READ_MAX ? OUTBOX_PAGE_BYTES
													   : 100,
							world.now))
		relay->held_page = page;
}

/* False: it was not about held topics. */
static inline bool
answer_about_held(Relay *relay)
{
	bool resumed;

	switch (relay->state.asked)
	{
		case OUTBOX_ASK_HELD:
			answer_held(relay);
			return true;
		case OUTBOX_HOLD:
			held_world.topics[relay->question.held.topic] = true;
			outbox_on_hold_stored(&relay->state);
			return true;
		case OUTBOX_SET_ASIDE:
			set_aside(&relay->question.held);
			outbox_on_asides_stored(&relay->state, world.now);
			return true;
		case OUTBOX_ASK_HELD_PAGE:
			answer_held_page(relay);
			return true;
		case OUTBOX_CROSS_OFF:
			resumed = cross_off(&relay->question.held);
			assert_true(outbox_on_crossed_off(&relay->state, resumed,
											  world.now) <= resumed);
			return true;
		default:
			return false;
	}
}

static inline void
answer(Relay *relay)
{
	OutboxAction asked = relay->state.asked;

	if (asked == OUTBOX_WAIT)
		return;
	assert_int_equal(asked, relay->question.what);
	if (asked == OUTBOX_CONNECT && !fails_one_in(4))
	{
		relay->session = true;
		outbox_on_connected(&relay->state, world.now);
	}
	else if (!relay->session)
	{
		if (one_in(30)) /* without notice, while another takes over */
			lose_connection(relay);
	}
	else if (asked == OUTBOX_ASK_SLEEP)
	{
		answer_sleep(relay);
		return;
	}
	else if (asked == OUTBOX_BEAT)
		outbox_on_beat(&relay->state, world.now);
	else if (asked == OUTBOX_ASK_LEAD)
		answer_lead(relay);
	else if (asked == OUTBOX_ASK_POSITION)
		answer_position(relay);
	else if (asked == OUTBOX_LOOK)
		answer_look(relay);
	else if (asked == OUTBOX_ASK_PAGE)
		answer_page(relay);
	else if (asked == OUTBOX_STORE)
	{
		store_position(&relay->question.position, relay->question.epoch);
		outbox_on_stored(&relay->state, false, world.now);
	}
	else if (!answer_about_held(relay))
		outbox_on_step_done(&relay->state, world.now);
	if (asked != OUTBOX_STORE)
		release_hint_lock(relay);
}

/*
 * The session reads its notifications when it is idle; its message to the
 * client may take a moment.
 */
static inline void
notify(Relay *relay)
{
	if (relay->message)
	{
		relay->message = false;
		outbox_on_wake(&relay->state);
	}
	if (relay->notified && relay->state.asked == OUTBOX_WAIT)
	{
		relay->notified = false;
		relay->message = true;
		release_hint_lock(relay);
	}
}

#endif
