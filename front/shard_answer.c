/*-------------------------------------------------------------------------
 *
 * shard_answer.c
 *	  The error of a call as a part of its answer.
 *
 * An error is returned, because PL/Proxy drops a connection on which one is
 * raised; so a call runs in a subtransaction (both_try).
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shard.h"

/* Appends a field of a row, as record_out does; NULL is nothing. */
void
shard_append_field(StringInfo row, const char *value)
{
	if (value == NULL)
		return;
	if (value[0] == '\0' || value[strcspn(value, "\"\\(), \t\n\r\v\f")] != '\0')
		both_append_quoted(row, value, '\0');
	else
		appendStringInfoString(row, value);
}

/* The text, or NULL if there is nothing in it. */
static const char *
answer_text(const char *value)
{
	return value == NULL || value[0] == '\0' ? NULL : value;
}

/*
 * The text of a pgstock_shard.failure.  Malformed data is not the client's
 * before the call was read: then the front is of another version.
 */
char *
shard_failure(const ErrorData *error, bool is_read)
{
	const char	  *state = unpack_sql_state(error->sqlerrcode);
	const char	  *message = error->message ? error->message : "";
	const char	  *detail = answer_text(error->detail);
	const char	  *hint = answer_text(error->hint);
	StringInfoData row;

	Assert(error->elevel >= ERROR);
	if (!is_read &&
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_DATA_EXCEPTION)
	{
		state = "55000";
		detail = message;
		message = VERSION_MESSAGE;
		hint = VERSION_HINT;
	}
	initStringInfo(&row);
	appendStringInfo(&row, "(%s,", state);
	shard_append_field(&row, message);
	appendStringInfoChar(&row, ',');
	shard_append_field(&row, detail);
	appendStringInfoChar(&row, ',');
	shard_append_field(&row, hint);
	appendStringInfoChar(&row, ')');
	return row.data;
}
