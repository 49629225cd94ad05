/*
 * daemon.h - the daemon
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_DAEMON_H
#define PGSTOCK_DAEMON_H

#include "common/exit_code.h"
#include "config/load.h"

/* Runs until a signal stops it, or an error that is permanent. */
ExitCode daemon_run(const ConfigOverrides *from);

#endif
