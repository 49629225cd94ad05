/*
 * connect_advice.h - the next step where PostgreSQL refuses a connection
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_DB_CONNECT_ADVICE_H
#define PGSTOCK_DB_CONNECT_ADVICE_H

#include <stdbool.h>

/* A phrase for an error of libpq's about TLS or the login; NULL: it is about
 * something else. */
const char *connect_advice(const char *error);

/* Whether the server's certificate was refused, for which libpq gives no
 * reason. */
bool connect_refused_certificate(const char *error);

#endif
