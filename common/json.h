/*
 * json.h - text as JSON
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_JSON_H
#define PGSTOCK_COMMON_JSON_H

#include "common/util.h"

/*
 * Appends text as a JSON string, quotes included.  A byte that is not UTF-8
 * becomes the replacement character: JSON cannot hold it.
 */
void json_add_string(Buf *json, const char *text);

/* The name of a member, and its colon.  It needs no escape. */
void json_add_name(Buf *json, const char *name);

#endif
