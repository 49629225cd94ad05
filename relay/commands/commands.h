/*
 * commands.h - the commands that do one thing and end, one file each
 *
 * config is NULL only for "config" without a file: a sample is printed.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_COMMANDS_H
#define PGSTOCK_COMMANDS_COMMANDS_H

#include "commands/command_line.h"
#include "common/exit_code.h"
#include "config/config.h"

/* Whether a relay with this configuration would work, line by line. */
ExitCode cmd_check(const Arguments *arguments, const Config *config);

/* After a restore: what it would publish; with --execute it publishes. */
ExitCode cmd_adopt(const Arguments *arguments, const Config *config);

ExitCode cmd_status(const Arguments *arguments, const Config *config);
ExitCode cmd_replay(const Arguments *arguments, const Config *config);
/* All levels, for the level stream. */
ExitCode cmd_snapshot(const Arguments *arguments, const Config *config);
ExitCode cmd_rewind(const Arguments *arguments, const Config *config);
ExitCode cmd_redrive(const Arguments *arguments, const Config *config);
ExitCode cmd_audit(const Arguments *arguments, const Config *config);
ExitCode cmd_discard(const Arguments *arguments, const Config *config);
/* An order's history. */
ExitCode cmd_order(const Arguments *arguments, const Config *config);
/* What stock_report() returns. */
ExitCode cmd_report(const Arguments *arguments, const Config *config);

ExitCode cmd_failed_list(const Arguments *arguments, const Config *config);
ExitCode cmd_failed_show(const Arguments *arguments, const Config *config);
ExitCode cmd_failed_act(const Arguments *arguments, const Config *config);
ExitCode cmd_failed_export(const Arguments *arguments, const Config *config);

#endif
