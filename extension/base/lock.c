/*-------------------------------------------------------------------------
 *
 * base/lock.c
 *	  Locks on names: lock.h has all classes, their order and the reasons.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "base/base.h"
#include "base/compat.h"
#include "base/lock.h"

/* The class in a lock's tag; documented in HACKING.md.  SQL's use 1 and 2. */
static const uint16 lock_numbers[] = {
	[LOCK_LEAD] = 0x7064,
	[LOCK_MESSAGE_ID] = 0x7065,
	[LOCK_IDEMPOTENCY_KEY] = 0x7066,
	[LOCK_ORDER] = 0x7067,
	[LOCK_NEW_LEVEL] = 0x7068,
	[LOCK_WAITING_KEY] = 0x7069,
	[LOCK_NEW_PARTITION] = 0x706a,
	[LOCK_HANDLER_TOPIC] = 0x706b,
	[LOCK_NEW_SALE] = 0x706d,
	[LOCK_PRODUCT] = 0x706e,
	[LOCK_HINT] = 0x706f,
};

StaticAssertDecl(lengthof(lock_numbers) == LOCK_HINT + 1,
				 "each class has a number");
StaticAssertDecl(LOCK_MESSAGE_ID < LOCK_IDEMPOTENCY_KEY &&
					 LOCK_IDEMPOTENCY_KEY < LOCK_ORDER &&
					 LOCK_ORDER < LOCK_LEVEL_ROWS,
				 "the order of stock/work.c");

static uint16
lock_number(LockClass class)
{
	Assert(class < lengthof(lock_numbers) && lock_numbers[class] != 0);
	return lock_numbers[class];
}

static LOCKTAG
lock_tag(LockClass class, const char *name)
{
	LOCKTAG tag;
	uint64	hash = DatumGetUInt64(
		 hash_any_extended((const unsigned char *) name, strlen(name), 0));

	Assert(class < LOCK_LEAD && OidIsValid(MyDatabaseId));
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32),
						 (uint32) hash, lock_number(class));
	return tag;
}

/* The one lock of a class that a database has one lock of. */
LOCKTAG
lock_tag_database(LockClass class)
{
	LOCKTAG tag;

	Assert(class == LOCK_LEAD || class == LOCK_HINT);
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, lock_number(class));
	return tag;
}

/* The call locks this class from here on: asserts that it may. */
void
lock_reach(Call *call, LockClass class)
{
	Assert(class != LOCK_NONE && class < LOCK_LEAD);
	Assert(class >= call->lock_class);
	/* it may be the first too, in a call that then ends */
	if (class == LOCK_NEW_PARTITION || class == call->lock_class)
		return;
	call->lock_class = class;
	call->lock_name = NULL;
}

/* The same for a name of the class. */
static void
lock_reach_name(Call *call, LockClass class, const char *name)
{
	lock_reach(call, class);
	/* the exceptions that lock.h gives reasons for */
	if (class == LOCK_NEW_PARTITION || class == LOCK_WAITING_KEY)
		return;
	Assert(class == call->lock_class);
	Assert(call->lock_name == NULL || strcmp(call->lock_name, name) <= 0);
	call->lock_name = name;
}

/* Each name is a lock in a table that all sessions share. */
static void
lock_raise_full(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of shared memory for locks"),
			 errdetail("Until its transaction ends, a lock is held for each "
					   "order, idempotency key, incoming message and new "
					   "product."),
			 errhint("Commit after fewer calls, or raise "
					 "max_locks_per_transaction.")));
}

/* Locks a name until the transaction ends; the name must outlive the call. */
void
lock_acquire(Call *call, LockClass class, const char *name)
{
	LOCKTAG tag = lock_tag(class, name);

	CHECK_FOR_INTERRUPTS();
	lock_reach_name(call, class, name);
	if (!compat_lock(&tag, ExclusiveLock, false, false))
		lock_raise_full();
}

/*
 * The same without waiting; false if another session holds it, or there is no
 * room for it.
 */
bool
lock_try_acquire(LockClass class, const char *name)
{
	LOCKTAG tag = lock_tag(class, name);

	return compat_try_lock(&tag, ExclusiveLock, false);
}

/* Releases one that lock_try_acquire() has acquired. */
void
lock_release(LockClass class, const char *name)
{
	LOCKTAG		  tag = lock_tag(class, name);
	bool released PG_USED_FOR_ASSERTS_ONLY;

	released = LockRelease(&tag, ExclusiveLock, false);
	Assert(released);
}
