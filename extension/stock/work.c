/*-------------------------------------------------------------------------
 *
 * stock/work.c
 *	  The unit of work: what one call touches, locked in the one order,
 *	  changed in memory, written at the end.
 *
 * Lock order, for every function and batch (base/lock.h has all of it):
 *
 *		message ids -> idempotency keys -> orders -> levels (level_lock.c)
 *
 * each kind sorted by its bytes.  Ids, keys and orders are advisory locks, so
 * they exist before the row does.  A level's row lock covers the lines that
 * count in it: no session changes a line without holding its level's lock, and
 * expiry changes lines without holding their order's.  So a call that settles
 * an order reads its lines, locks their levels, and reads the lines again
 * (work_lock_levels).  For its event expiry locks the order last, and so
 * without waiting (expire.c).
 *
 * Writes: lines, movements, levels.  The hot row is the last, and each row is
 * written once however often the call has changed it.
 *
 * Snapshots are those of the call (base/call.c): a new one after the orders and
 * another after the levels are locked.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "stock/stock.h"

/* Writes the lines that have changed; their levels are locked. */
static void
work_write_lines(Work *work)
{
	ListCell *cell;
	ListCell *each;

	foreach(cell, work->orders)
	{
		foreach(each, ((Order *) lfirst(cell))->lines)
		{
			Reservation *line = lfirst(each);

			if (!line->dirty)
				continue;
			Assert(line->order == lfirst(cell));
			Assert(work->levels_locked && work_has_locked_line(work, line));
			line_write(&work->call, line);
		}
	}
	foreach(cell, work->other_lines)
	{
		Assert(work->levels_locked && work_has_locked_line(work, lfirst(cell)));
		line_write(&work->call, lfirst(cell));
	}
}

void
work_begin(Work *work, const char *function)
{
	memset(work, 0, sizeof(*work));
	call_begin(&work->call, function);
}

/* How the work locks its levels: by default it waits for their rows. */
void
work_set_strategy(Work *work, Strategy strategy)
{
	Assert(!work->levels_locked);
	work->strategy = strategy;
}

/* Writes what has changed, and ends the call. */
void
work_end(Work *work)
{
	Assert(work->levels_locked || work->movements == NIL);
	work_write_lines(work);
	ledger_write(work);
	if (work->refused != NIL)
		refused_write(work);
	level_mark_write(work);
	work_write_levels(work);
	call_end(&work->call);
}
