/*
 * validate.h - what must hold for the configuration as a whole
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_CONFIG_VALIDATE_H
#define PGSTOCK_CONFIG_VALIDATE_H

#include "config/config.h"

/*
 * False, and one sentence in *error, if the relay could not work with it.
 * offline: without a broker it can.
 */
bool config_validate(const Config *config, bool offline, Buf *error) MUST_CHECK;

/* The part about [webhook]; its message never holds the url. */
bool config_validate_webhook(const Config *config, Buf *error) MUST_CHECK;

#endif
