/*
 * safe_text.h - texts of others, shown to people
 *
 * What a producer wrote may hold line ends that forge a row, a terminal's
 * escape sequences, and marks that turn the direction of what follows.
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

/* A whole line, line end added: nothing that is put in makes another one. */
void safe_line(FILE *to, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
