/*
 * files.h - the files of the console, which the binary contains
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_FILES_H
#define PGSTOCK_GATEWAY_FILES_H

#include "common/util.h"

#define FILE_TAG_BYTES 36 /* with quotation marks and the final NUL */

typedef struct ConsoleFile
{
	const char *name;
	const char *type;
	const char *start;
	const char *end;
} ConsoleFile;

/* NULL if there is no such file; "" is the page itself. */
const ConsoleFile *console_file(const char *name);

/* The entity tag of its contents, quotation marks included. */
void console_file_tag(const ConsoleFile *file, char tag[FILE_TAG_BYTES]);

#endif
