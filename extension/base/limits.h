/*-------------------------------------------------------------------------
 *
 * base/limits.h
 *	  SQLSTATEs of our own, and the limits that several layers share.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#include "postgres.h"

/* SQLSTATEs of our own, class SK; docs/sql-api.md lists them. */
#define ERRCODE_SK_INSUFFICIENT	   MAKE_SQLSTATE('S', 'K', '0', '0', '1')
#define ERRCODE_SK_UNKNOWN_PRODUCT MAKE_SQLSTATE('S', 'K', '0', '0', '2')
#define ERRCODE_SK_UNKNOWN_ORDER   MAKE_SQLSTATE('S', 'K', '0', '0', '4')
#define ERRCODE_SK_WRONG_STATE	   MAKE_SQLSTATE('S', 'K', '0', '0', '5')
#define ERRCODE_SK_EXPIRED		   MAKE_SQLSTATE('S', 'K', '0', '0', '6')
#define ERRCODE_SK_LEDGER_DRIFT	   MAKE_SQLSTATE('S', 'K', '0', '1', '0')
#define ERRCODE_SK_STALE_VERSION   MAKE_SQLSTATE('S', 'K', '0', '1', '1')
#define ERRCODE_SK_KEY_REUSED	   MAKE_SQLSTATE('S', 'K', '0', '0', '7')
#define ERRCODE_SK_NOT_OPEN		   MAKE_SQLSTATE('S', 'K', '0', '0', '8')

#define STOCK_QUANTITY_MAX (INT64CONST(1) << 53) /* exact in any JSON */
#define STOCK_ID_BYTES_MAX 255
/*
 * Of a text for people, a reason or an error: each line of an order repeats it
 * in the ledger, and an event must have room for it.
 */
#define STOCK_TEXT_BYTES_MAX 2000

#endif /* BASE_LIMITS_H */
