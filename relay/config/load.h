/*
 * load.h - the configuration, from file and command line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_CONFIG_LOAD_H
#define PGSTOCK_CONFIG_LOAD_H

#include "config/config.h"

/* The command line: its options take the place of the file's. */
typedef struct ConfigOverrides
{
	const char *path;	  /* the file, or NULL */
	const char *postgres; /* conninfo, or NULL */
	const char *kafka;	  /* bootstrap.servers, or NULL */
	bool		offline;  /* the command needs no broker: none need be named */
} ConfigOverrides;

/* NULL and one sentence in *error if anything is wrong. */
Config *config_load(const ConfigOverrides *from, Buf *error) MUST_CHECK;

#endif
