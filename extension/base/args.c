/*-------------------------------------------------------------------------
 *
 * base/args.c
 *	  Arguments of SQL functions: texts and ids, checked.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/base.h"

/* What is wrong with an id, or NULL. */
const char *
args_id_fault(const char *id)
{
	Assert(id != NULL);
	if (id[0] == '\0')
		return "must not be empty";
	if (strlen(id) > STOCK_ID_BYTES_MAX)
		return "must not be longer than 255 bytes";
	/* Kept where no event is written, it would fail the one that is. */
	if (!text_is_convertible(id))
		return "must not contain a character that UTF-8 does not have";
	return NULL;
}

/* A text argument, or NULL. */
char *
args_text(FunctionCallInfo fcinfo, int n)
{
	Assert(n < PG_NARGS());
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* A text argument that names something: an id. */
char *
args_id(FunctionCallInfo fcinfo, int n, const char *name)
{
	char	   *id = args_text(fcinfo, n);
	const char *fault = id == NULL ? "must not be null" : args_id_fault(id);

	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s %s", name, fault)));
	return id;
}

/* Why something is done, or NULL; what is too long for that is cut. */
char *
args_reason(FunctionCallInfo fcinfo, int n)
{
	char *reason = args_text(fcinfo, n);

	return reason ? text_printable(reason) : NULL;
}
