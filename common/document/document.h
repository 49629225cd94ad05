/*
 * document.h - texts about a daemon, made of its tables at build time
 *
 * Each daemon has a program of the build, which is linked with its own tables,
 * so that the documents cannot differ from what the daemon does.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_DOCUMENT_H
#define PGSTOCK_COMMON_DOCUMENT_H

#include "common/arguments.h"
#include "common/config_table.h"

/* What the documents of a daemon are made of. */
typedef struct DocumentSource
{
	const ArgumentTable *commands;
	const ConfigTable	*options;
	/* On the section of another library's properties; NULL: there is none. */
	const char *properties_help;
	/*
	 * Adds a part that only this daemon's pages have; false if there is none of
	 * that name.  NULL: there are none.
	 */
	bool (*add_part)(const char *name, Buf *text);
} DocumentSource;

/* ---- document.c ---- */

/* The program; returns its exit code. */
int document_main(const DocumentSource *source, int argc, char **argv);

/* ---- manual.c: a manual page in mdoc(7) ---- */

/*
 * What stands for a line of the hand-written page, such as "@commands@"; false
 * if there is no such part.
 */
bool manual_add_part(const DocumentSource *source, const char *name,
					 Buf *text) MUST_CHECK;

/* Sentences: each begins a line, as roff wants it. */
void manual_add_text(Buf *text, const char *words);

/* ---- completion.c ---- */

void completion_add_bash(const ArgumentTable *table, Buf *text);
void completion_add_zsh(const ArgumentTable *table, Buf *text);

#endif
