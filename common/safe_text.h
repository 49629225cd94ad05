/*
 * safe_text.h - text of foreign origin, made safe to print
 *
 * A text that a producer of messages wrote may hold line ends that forge a row,
 * a terminal's escape sequences, and marks that turn the direction of writing.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_SAFE_TEXT_H
#define PGSTOCK_COMMON_SAFE_TEXT_H

#include <stdio.h>

#include "common/util.h"

/*
 * One character: its bytes, and its code point in *code.  -1 in *code: the byte
 * is no UTF-8.  text is not at its end.
 */
size_t safe_decode(const char *text, size_t len, int32_t *code);

/* Whether a terminal shows it as itself, and nothing more. */
bool safe_is_plain(int32_t code);

/*
 * Adds the text, and for each character that is not plain \n, \r, \t, \xHH (a
 * byte) or \u{HHHH}.  Backslashes stay single: JSON is full of them.
 */
void safe_add(Buf *to, const char *text, size_t len);

/* One line, line end added: no argument can make another one. */
void safe_line(FILE *to, const char *format, ...) PRINTF_LIKE(2, 3);

/* The same behind a label, for functions that print lines of one kind. */
void safe_vline(FILE *to, const char *label, const char *format, va_list args)
	PRINTF_LIKE(3, 0);

#endif
