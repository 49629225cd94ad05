/*
 * connect_advice.h - the next step where PostgreSQL refuses a connection
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_DB_CONNECT_ADVICE_H
#define PGSTOCK_DB_CONNECT_ADVICE_H

#include "common/util.h"

/*
 * Appends the next step, a phrase, for an error of libpq's about TLS or the
 * login of conninfo; false: it is about something else.
 */
bool connect_advise(const char *error, const char *conninfo, Buf *to);

/*
 * Appends where a parameter of the connection is set, such as "host in
 * [postgres] conninfo" or "PGHOST in the environment".
 */
void connect_name_place(const char *conninfo, const char *keyword, Buf *to);

/*
 * Whether the server's certificate was refused, for which libpq gives no
 * reason.
 */
bool connect_refused_certificate(const char *error);

#endif
