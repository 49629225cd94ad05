/*
 * start_offset.c - where reading of a partition begins
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/start_offset.h"

StartOffset
start_offset_decide(const StartFacts *facts)
{
	bool known = facts->first >= 0;

	Assert(facts->next >= 0);
	Assert(!known || facts->first <= facts->end);
	if (facts->refuted && !known)
		return (StartOffset){.kind = START_WAIT};
	/* Whatever the history is: all that is left of it is read. */
	if (known && facts->first > facts->next)
		return (StartOffset){
			.kind = START_MOVE,
			.from = facts->first,
			.reason = "retention",
			.last_missing = facts->first - 1,
		};
	if (known && (facts->refuted || facts->end < facts->next))
		return (StartOffset){
			.kind = START_MOVE,
			.from = facts->first,
			.reason = "history",
			.last_missing = -1,
		};
	if (facts->next == 0 || facts->first == facts->next)
		return (StartOffset){.kind = START_READ, .from = facts->next};
	return (StartOffset){.kind = START_PROVE, .from = facts->next - 1};
}
