/*
 * daemon.h - the daemon: start, loop, stop
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_DAEMON_H
#define PGSTOCK_GATEWAY_DAEMON_H

#include "common/exit_code.h"
#include "config/config.h"

ExitCode daemon_run(const ConfigOrigin *from);

#endif
