/*
 * check.h - commands that look, tell and end: check, adopt
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_CHECK_H
#define PGSTOCK_CHECK_H

#include "config.h"
#include "exit_code.h"

/* Whether a relay with this configuration would work, line by line. */
ExitCode check_run(const Config *config);

/* After a restore: what it would publish; with execute it goes on from there. */
ExitCode adopt_run(const Config *config, bool execute);

#endif
