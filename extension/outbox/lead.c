/*-------------------------------------------------------------------------
 *
 * outbox/lead.c
 *	  The lead of the outbox: one relay at a time publishes it.
 *
 * The lead is a lock of the relay's session, so that it ends with the session;
 * the epoch, in sql/lead.sql, keeps a former leader from storing a position.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lock.h"

#include "outbox/outbox.h"

PG_FUNCTION_INFO_V1(pgstock_try_lead);

/*
 * try_lead() RETURNS boolean
 *
 * Takes the session's lock on the lead, in a class that SQL's own advisory
 * locks cannot reach: no other session can withhold it from the relays.
 */
Datum
pgstock_try_lead(PG_FUNCTION_ARGS)
{
	LOCKTAG tag = lock_tag_database(LOCK_LEAD);

	PG_RETURN_BOOL(LockAcquire(&tag, ExclusiveLock, true, true) !=
				   LOCKACQUIRE_NOT_AVAIL);
}
