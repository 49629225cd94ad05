/*-------------------------------------------------------------------------
 *
 * front.h
 *	  What the files of the module pgstock_front share.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGSTOCK_FRONT_H
#define PGSTOCK_FRONT_H

#include "base/compat.h"

/* Columns of pgstock_front.answer. */
enum
{
	ANSWER_ERROR = 2,
	ANSWER_ROWS = 3,
};

/* in pgstock_front.c */
extern Oid				front_function(const char *name, Oid first, Oid second);
extern Oid				front_type(const char *name);
extern NullableDatum	front_column(Datum row, int number);
extern Datum			front_read_answer(char *input);
pg_noreturn extern void front_no_answer(void);
extern char			   *front_caller(void);
extern char			   *front_setting(const char *name);
extern char			   *front_actor(void);

/* in front_saga.c */
extern Datum *front_elements(Datum array, Oid type, int *count);
extern Datum  front_array(Datum *elements, int count, Oid type);

#endif
