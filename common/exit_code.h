/*
 * exit_code.h - what the process returns when it ends
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_EXIT_CODE_H
#define PGSTOCK_COMMON_EXIT_CODE_H

typedef enum ExitCode
{
	EXIT_CLEAN = 0,
	EXIT_RUNTIME = 1,
	EXIT_USAGE = 2,		   /* command line or configuration */
	EXIT_INCOMPATIBLE = 3, /* the extension has another API */
} ExitCode;

#endif
