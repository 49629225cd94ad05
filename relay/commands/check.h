/*
 * check.h - commands that look, tell and end: check, adopt
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_CHECK_H
#define PGSTOCK_COMMANDS_CHECK_H

#include "common/exit_code.h"
#include "config/config.h"

/* Whether a relay with this configuration would work, line by line. */
ExitCode check_run(const Config *config);

/* After a restore: what it would publish; with execute it goes on from there. */
ExitCode adopt_run(const Config *config, bool execute);

#endif
