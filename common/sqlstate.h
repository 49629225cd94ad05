/*
 * sqlstate.h - what an SQL error means for the call that got it
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_SQLSTATE_H
#define PGSTOCK_COMMON_SQLSTATE_H

#define SQLSTATE_INSUFFICIENT_PRIVILEGE "42501"

typedef enum SqlClass
{
	SQL_TRANSIENT, /* the same call may succeed after a pause */
	SQL_PERMANENT, /* the same call would fail again */
} SqlClass;

/* sqlstate: five characters, or NULL where the connection broke */
SqlClass sqlstate_class(const char *sqlstate);

#endif
