/*
 * repeat.h - how a client repeats a request whose answer it did not get
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_REPEAT_H
#define PGSTOCK_GATEWAY_REPEAT_H

#include "api/request.h"

/* Whether repeating it does no harm: it changes nothing. */
bool repeat_is_read(const Route *route) MUST_CHECK;

/*
 * False if the request has a header that would make repeating it safe on
 * another route, and has no effect on this one; that was answered then.
 */
bool repeat_check_headers(const ApiRequest *request) MUST_CHECK;

/* The next step where it is not known whether the request took effect. */
const char *repeat_hint(const Route *route);

#endif
