/*
 * config.h - the gateway's configuration: its values
 *
 * The options and their limits are in options.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_CONFIG_H
#define PGSTOCK_GATEWAY_CONFIG_H

#include <stdio.h>

#include "common/config_table.h"

/* How many addresses a gateway listens on. */
#define LISTEN_MAX 8

typedef struct Config
{
	/* [gateway] */
	char  **listen;			 /* host:port, or unix:/path */
	char   *tls_certificate; /* a file; empty: no TLS */
	char   *tls_key;
	char   *tls_client_ca; /* empty: clients need no certificate */
	char   *tokens;		   /* a file; empty: no client needs one */
	char  **admin_users;   /* by a Unix socket; may be none */
	int64_t batch_max;	   /* reservations in one commit */
	int64_t queue_max;	   /* requests that wait for a session */
	char   *rate_user;	   /* as 50/s; empty: no limit */
	char   *rate_client;
	char   *rate_sale;
	bool	console;	/* it is served */
	int64_t log_level;	/* LogLevel */
	int64_t log_format; /* LogFormat */
	/* [postgres] */
	char   *conninfo;		 /* may hold a secret */
	char   *reader_conninfo; /* the same; empty: conninfo serves for it */
	char   *admin_conninfo;	 /* the same; empty: no request of an admin */
	int64_t pool;			 /* sessions of conninfo, and of reader_conninfo */
	/* of rate_user, rate_client and rate_sale: requests a second; 0: all */
	double user_rate;
	double client_rate;
	double sale_rate;
	/* for messages */
	ConfigSource source;
} Config;

/* Where a configuration comes from; NULL: not given. */
typedef struct ConfigOrigin
{
	const char *path;
	const char *postgres; /* in place of conninfo */
	const char *listen;	  /* in place of listen */
} ConfigOrigin;

/* NULL, and one sentence in *error, if anything is wrong. */
Config *config_load(const ConfigOrigin *from, Buf *error) MUST_CHECK;
void	config_free(Config *config);

/*
 * Takes over from fresh what may change while running.  The names of options
 * that differ and need a restart are appended to *restart.
 */
void config_reload(Config *config, const Config *fresh, Buf *restart);

/* Whether it takes over the files of TLS. */
bool config_reloads_tls(const Config *config, const Config *fresh) MUST_CHECK;

/* A file with every key, its value and what it means; config NULL: a sample. */
void config_print(const Config *config, FILE *to);

#endif
