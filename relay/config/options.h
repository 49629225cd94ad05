/*
 * options.h - the relay's options: their names, limits, defaults and docstrings
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_CONFIG_OPTIONS_H
#define PGSTOCK_CONFIG_OPTIONS_H

#include "common/config_table.h"

/* Of a Config (config.h). */
extern const ConfigTable relay_options;

#endif
