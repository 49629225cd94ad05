/*
 * document.h - texts about the command line, made of its table at build time
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_DOCUMENT_DOCUMENT_H
#define PGSTOCK_DOCUMENT_DOCUMENT_H

#include "common/arguments.h"
#include "common/util.h"

/* ---- manual.c: a manual page in mdoc(7) ---- */

/* What stands for a line of the hand-written page, such as "@commands@"; false
 * if there is no such part. */
bool manual_add_part(const char *name, Buf *text) MUST_CHECK;

/* ---- completion.c ---- */

void completion_add_bash(const ArgumentTable *table, Buf *text);
void completion_add_zsh(const ArgumentTable *table, Buf *text);

#endif
