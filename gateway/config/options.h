/*
 * options.h - the table of the gateway's options
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_OPTIONS_H
#define PGSTOCK_GATEWAY_OPTIONS_H

#include "common/config_table.h"

extern const ConfigTable gateway_options;

#endif
