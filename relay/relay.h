/*
 * relay.h - the daemon
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_RELAY_H
#define PGSTOCK_RELAY_H

#include "config.h"
#include "exit_code.h"

/* Runs until it is told to stop or cannot go on. */
ExitCode relay_run(const ConfigOverrides *from);

#endif
