/*-------------------------------------------------------------------------
 *
 * base/lock.h
 *	  All lock classes of pgstock, in the order in which a call may take them.
 *
 * Where nothing else is said they are advisory locks of classes (objsubid in
 * pg_locks) that no SQL function can name, so they never conflict with an
 * application's advisory locks.  A name is locked by its hash: two names with
 * one hash share a lock, which may cost a wait, and breaks nothing.
 *
 * A call acquires classes in the order of this list, and the names of one class
 * in the order of their bytes, so no two calls wait for each other; an
 * exception says why.  lock_acquire() asserts both orders in a call.  Between
 * the calls of one transaction the order is the application's matter: locks are
 * released when the transaction ends.  A lock that is only tried may be
 * acquired out of order, for its caller does not wait.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include "postgres.h"

#include "storage/lock.h"

/* In rank order; lock.c has their numbers. */
typedef enum LockClass
{
	/* Nothing is locked yet. */
	LOCK_NONE,

	/*
	 * Not an advisory lock: the table level_stream, which a step of the level
	 * stream and a page of a snapshot lock (sql/level_stream.sql).  First, for
	 * their snapshot is taken under it; they lock no other class.
	 */
	LOCK_LEVEL_STREAM,

	/*
	 * Registered handlers of a topic.  First, and alone: registering a handler
	 * locks nothing else.
	 */
	LOCK_HANDLER_TOPIC,

	/*
	 * An id of an incoming message.  Before the message's order: a duplicate
	 * must not get that far.
	 */
	LOCK_MESSAGE_ID,

	/*
	 * Not an advisory lock: the row in failed_event of a message that was sent
	 * back from a dead letter topic.  After its id, which all that try the
	 * message lock before the row, so they meet there; before its order, for
	 * the row decides whether the order is looked at.  The functions for
	 * administrators lock such a row without its id, and nothing after it.
	 */
	LOCK_REDRIVEN_ROW,

	/*
	 * An idempotency key.  Before the order: the answer stored under the key
	 * decides whether the order is looked at.
	 */
	LOCK_IDEMPOTENCY_KEY,

	/*
	 * A flash sale that is being opened.  Before levels: the sale's level is
	 * made under this lock.
	 */
	LOCK_NEW_SALE,

	/* An order.  Before levels: its lines determine the levels. */
	LOCK_ORDER,

	/*
	 * A level that has no row yet.  Before rows: once it exists, its row is
	 * locked among the others.
	 */
	LOCK_NEW_LEVEL,

	/*
	 * A product, with strategy advisory.  Before rows: callers wait for it
	 * instead of waiting for the rows.
	 */
	LOCK_PRODUCT,

	/*
	 * Not an advisory lock: rows of levels, by product, location and slot.
	 * level_lock.c has the passes.
	 */
	LOCK_LEVEL_ROWS,

	/*
	 * A topic and key that has a waiting message.  After levels, because the
	 * outcome of a message decides whether its key is needed, and the outcome
	 * needs the levels.  A batch has locked the ids, orders and levels of all
	 * its messages before it locks the first key, and nothing of a lower rank
	 * afterwards.  So a session that waits for a key waits for one that can
	 * only wait for another key.  Keys are locked in the order of messages,
	 * not of their bytes, so two batches may deadlock on two keys.  That is
	 * SQLSTATE 40P01, which is transient: the relay sends the batch again.
	 * Where messages are applied one by one (lock_patience.c), each locks its
	 * own orders after the keys of those before it, and lock_timeout ends a
	 * deadlock.
	 */
	LOCK_WAITING_KEY,

	/*
	 * A partition that has no row yet.  Last, for a session that waits for it
	 * waits until the other batch commits; or first, to record a try, by a
	 * call that then ends.  Partitions of a topic are locked in the order of
	 * their numbers, not of their bytes.
	 */
	LOCK_NEW_PARTITION,

	/*
	 * The lead, and the hint that the relay sleeps (outbox/wakeup.c).  Locks of
	 * a session; only tried, never waited for.
	 */
	LOCK_LEAD,
	LOCK_HINT
} LockClass;

struct Call;

extern LOCKTAG lock_tag_database(LockClass class);
extern void lock_acquire(struct Call *call, LockClass class, const char *name);
extern void lock_reach(struct Call *call, LockClass class);
extern bool lock_try_acquire(LockClass class, const char *name);
extern void lock_release(LockClass class, const char *name);

#endif /* BASE_LOCK_H */
