/*
 * usage.h - help for a command line, from its table
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_USAGE_H
#define PGSTOCK_COMMON_USAGE_H

#include "common/arguments.h"

/*
 * One line for each command, under its heading; of those that begin with the
 * group only, unless that is NULL.
 */
void usage_add_overview(const ArgumentTable *table, const char *group,
						Buf *text);

/* "Usage: PROGRAM COMMAND ...", in one line or several. */
void usage_add_synopsis(const ArgumentTable *table, int command, Buf *text);

/* Synopsis, description and options of a command. */
void usage_add_command(const ArgumentTable *table, int command, Buf *text);

/*
 * What --help prints: about the command, or all that begin with the group, or
 * the program.
 */
void usage_add_help(const ArgumentTable *table, const Arguments *arguments,
					Buf *text);

/*
 * Which command or group the operands of "help" name, none for none; false, and
 * one sentence in *error, if there is no such command.
 */
bool usage_find_named(const ArgumentTable *table, const Arguments *arguments,
					  Arguments *named, Buf *error) MUST_CHECK;

/* Behind an error: how the command is called, and where its help is. */
void usage_add_pointer(const ArgumentTable *table, const Arguments *arguments,
					   Buf *text);

/* A line or more for each of these options. */
void usage_add_options(const ArgumentTable *table, uint64_t options, Buf *text);

/*
 * What the help says of an option besides its help text: default and range, as
 * in "; 1 to 60, default: 2".
 */
void usage_add_range(const ArgumentOption *option, Buf *text);

#endif
