/*
 * daemon.c - the daemon: start, loop, stop
 *
 * One thread.  A turn: events are handled, what has gathered goes to the
 * sessions (api_turn), and what was answered to the clients (server_turn).
 *
 * A database that cannot be reached is a state (/readyz), not a failed start.
 *
 * No call of the thread waits for a server, but for libpq's lookup of a host
 * name when a session is opened: 6 s a host, by RES_OPTIONS, with three name
 * servers that do not respond.  Give hostaddr where that matters.  And, when
 * SIGHUP is received, but for the lookup of the users that the configuration
 * names (local_users.c), which may wait for a directory server.
 *
 * SIGTERM drains: no connection is accepted any more, what has arrived is
 * answered, each connection ends with its answer.  A second one ends at once.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "api/api.h"
#include "common/listener.h"
#include "common/log.h"
#include "config/metric_table.h"

#define LOG_MODULE "gateway"

#define DRAIN_US	 (10 * SEC_US) /* from SIGTERM to the end at the latest */
#define FILES_BESIDE 256		   /* besides connections: sessions, log, ... */

typedef struct Gateway
{
	ConfigOrigin from; /* for a reload */
	Config		*config;
	Loop		*loop;
	LoopTimer	*watchdog_timer;
	LoopTimer	*drain_timer;
	int64_t		 watchdog_us; /* its interval; 0: there is none */
	Metrics		*metrics;
	Access		*access;
	Tls			*tls; /* NULL: no address is encrypted */
	Api			*api;
	Server		*servers[LISTEN_MAX]; /* one for each address */
	int			 server_count;
	bool		 ready; /* in the last STATUS */
	bool		 stopping;
	bool hurried; /* a second SIGTERM, or the drain has taken too long */
} Gateway;

/* ---- signals and timers ------------------------------------------------ */

static void
daemon_on_stop(void *arg)
{
	Gateway *gateway = arg;

	if (gateway->stopping)
	{
		gateway->hurried = true;
		return;
	}
	gateway->stopping = true;
	log_info("shutting down, waiting for requests under way");
	loop_notify("STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRId64,
				DRAIN_US + 5 * SEC_US);
	loop_timer_set(gateway->drain_timer, loop_now(gateway->loop) + DRAIN_US);
	api_stop(gateway->api);
	for (int i = 0; i < gateway->server_count; i++)
		server_drain(gateway->servers[i]);
}

static void
daemon_on_drain_end(void *arg)
{
	Gateway *gateway = arg;

	Assert(gateway->stopping);
	gateway->hurried = true;
}

static void
daemon_use_access(Gateway *gateway, Access *access)
{
	Assert(access != NULL && access != gateway->access);
	api_set_access(gateway->api, access);
	access_free(gateway->access);
	gateway->access = access;
}

/* For connections that are opened from now on. */
static void
daemon_use_tls(Gateway *gateway, Tls *tls)
{
	/* whether there is TLS is decided at the start */
	Assert(gateway->tls != NULL || gateway->server_count == 0);
	for (int i = 0; i < gateway->server_count; i++)
		if (server_has_tls(gateway->servers[i]))
			server_set_tls(gateway->servers[i], tls);
	tls_release(gateway->tls);
	gateway->tls = tls;
	*metrics_cell(gateway->metrics, METRIC_CERTIFICATE_EXPIRES,
				  NULL) = (double) tls_expires_at(tls);
}

/*
 * Reads the files that say who may do what, and those of TLS, as they will be
 * once the fresh configuration is taken over (at the start: the same one).
 * Nothing changes where anything is wrong with them.
 */
static bool
daemon_load_files(Gateway *gateway, const Config *fresh, Buf *error)
{
	const Config *config = gateway->config;
	const Config *with_tls = config_reloads_tls(config, fresh) ? fresh : config;
	const TlsFiles files = {with_tls->tls_certificate, with_tls->tls_key,
							with_tls->tls_client_ca};
	Access *access = access_load(config->tokens, fresh->admin_users, error);
	Tls	   *tls = NULL;

	if (access != NULL && files.certificate[0] != '\0')
		tls = tls_load(&files, error);
	if (error->len > 0)
	{
		access_free(access);
		return false;
	}
	daemon_use_access(gateway, access);
	if (tls != NULL)
		daemon_use_tls(gateway, tls);
	return true;
}

/* All of it, or, where anything is wrong with a file, nothing. */
static void
daemon_on_reload(void *arg)
{
	Gateway *gateway = arg;
	Buf		 error = {0};
	Buf		 restart = {0};
	Config	*fresh;

	if (gateway->stopping)
		return;
	loop_notify("RELOADING=1\nMONOTONIC_USEC=%" PRId64,
				loop_now(gateway->loop));
	fresh = config_load(&gateway->from, &error);
	if (fresh == NULL || !daemon_load_files(gateway, fresh, &error))
		log_error("keeping the old configuration: %s", buf_str(&error));
	else
	{
		config_reload(gateway->config, fresh, &restart);
		log_configure((LogLevel) gateway->config->log_level,
					  (LogFormat) gateway->config->log_format);
		log_info("configuration reloaded");
		if (restart.len > 0)
			log_warning("these need a restart: %s", buf_str(&restart));
	}
	config_free(fresh);
	buf_free(&error);
	buf_free(&restart);
	loop_notify("READY=1");
}

static void
daemon_on_watchdog(void *arg)
{
	Gateway *gateway = arg;

	Assert(gateway->watchdog_us > 0);
	loop_notify("WATCHDOG=1");
	loop_timer_set(gateway->watchdog_timer,
				   loop_now(gateway->loop) + gateway->watchdog_us / 4);
}

/* ---- start, loop, stop ------------------------------------------------- */

/*
 * EXIT_USAGE only where another start would fail like this one; an address may
 * be assigned later.
 */
static ExitCode
daemon_listen(Gateway *gateway, const char *listen)
{
	Buf		error = {0};
	Tls	   *tls = listener_is_path(listen) ? NULL : gateway->tls;
	int		fd = listener_open(listen, &error);
	int		reason = fd < 0 ? errno : ENOMEM;
	Server *server = fd < 0 ? NULL
							: server_new(gateway->loop, fd, tls, &api_handlers,
										 gateway->api, &error);

	if (server != NULL)
	{
		Assert(gateway->server_count < LISTEN_MAX);
		gateway->servers[gateway->server_count++] = server;
		log_info("listens on %s%s", listen, tls != NULL ? " with TLS" : "");
		return EXIT_CLEAN;
	}
	log_error("%s%s", buf_str(&error),
			  listener_may_pass(reason)
				  ? ""
				  : "; set \"listen\" in [gateway] to an address that is free");
	buf_free(&error);
	return listener_may_pass(reason) ? EXIT_RUNTIME : EXIT_USAGE;
}

static void
daemon_watch_signals(Gateway *gateway)
{
	/* errors of a write: a client that has left, a log that may not grow */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	loop_signal(gateway->loop, SIGTERM, daemon_on_stop, gateway);
	loop_signal(gateway->loop, SIGINT, daemon_on_stop, gateway);
	loop_signal(gateway->loop, SIGHUP, daemon_on_reload, gateway);
}

/* As many files as there may be connections, if the system lets us. */
static void
daemon_raise_files(void)
{
	const rlim_t  wanted = SERVER_CONNECTIONS_MAX + FILES_BESIDE;
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= wanted)
		return;
	files.rlim_cur = files.rlim_max == RLIM_INFINITY
						 ? wanted
						 : Min(wanted, files.rlim_max);
	(void) setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < wanted)
		log_warning("%llu files may be open, which is less than %llu: fewer "
					"clients can be connected at once",
					(unsigned long long) files.rlim_cur,
					(unsigned long long) wanted);
}

static ExitCode
daemon_start(Gateway *gateway)
{
	Buf		 error = {0};
	ExitCode code = EXIT_CLEAN;

	daemon_raise_files();
	gateway->loop = loop_new();
	daemon_watch_signals(gateway);
	gateway->watchdog_timer = loop_timer_new(gateway->loop, daemon_on_watchdog,
											 gateway);
	gateway->drain_timer = loop_timer_new(gateway->loop, daemon_on_drain_end,
										  gateway);
	gateway->metrics = metrics_new(&metric_table);
	*metrics_cell(gateway->metrics, METRIC_BUILD_INFO, "version",
				  PGSTOCK_VERSION, NULL) = 1;
	*metrics_cell(gateway->metrics, METRIC_CERTIFICATE_EXPIRES, NULL) = 0;
	gateway->api = api_new(gateway->loop, gateway->config, gateway->metrics);
	if (!daemon_load_files(gateway, gateway->config, &error))
	{
		log_error("%s", buf_str(&error));
		buf_free(&error);
		return EXIT_USAGE;
	}
	for (char **listen = gateway->config->listen;
		 *listen != NULL && code == EXIT_CLEAN; listen++)
		code = daemon_listen(gateway, *listen);
	if (code != EXIT_CLEAN)
		return code;
	gateway->watchdog_us = loop_watchdog_us();
	if (gateway->watchdog_us > 0)
		loop_timer_set(gateway->watchdog_timer, loop_now(gateway->loop));
	loop_notify("READY=1\nSTATUS=connecting");
	return EXIT_CLEAN;
}

static void
daemon_notify_status(Gateway *gateway)
{
	bool ready = api_is_ready(gateway->api);

	if (ready == gateway->ready)
		return;
	gateway->ready = ready;
	loop_notify("STATUS=%s", ready ? "ready" : "no session with the database");
	if (ready)
		log_info("ready");
	else if (!gateway->stopping)
		log_warning("not ready: no session with the database");
}

static unsigned
daemon_connections(const Gateway *gateway)
{
	unsigned count = 0;

	for (int i = 0; i < gateway->server_count; i++)
		count += server_connections(gateway->servers[i]);
	return count;
}

static bool
daemon_is_drained(const Gateway *gateway)
{
	for (int i = 0; i < gateway->server_count; i++)
		if (!server_is_drained(gateway->servers[i]))
			return false;
	return true;
}

static ExitCode
daemon_loop(Gateway *gateway)
{
	double *connections = metrics_cell(gateway->metrics, METRIC_CONNECTIONS,
									   NULL);

	Assert(gateway->server_count > 0);
	while (!gateway->hurried && !daemon_is_drained(gateway))
	{
		loop_turn(gateway->loop);
		api_turn(gateway->api);
		for (int i = 0; i < gateway->server_count; i++)
			server_turn(gateway->servers[i]);
		*connections = daemon_connections(gateway);
		daemon_notify_status(gateway);
	}
	Assert(gateway->stopping);
	if (!gateway->hurried)
	{
		log_info("ended");
		return EXIT_CLEAN;
	}
	log_warning("ended with %u connections open", daemon_connections(gateway));
	return EXIT_RUNTIME;
}

/*
 * In this order: the api answers what waits, the server sends it, and each
 * request that ends with it is still the api's.
 */
static void
daemon_stop(Gateway *gateway)
{
	api_end(gateway->api);
	for (int i = 0; i < gateway->server_count; i++)
		server_free(gateway->servers[i]);
	api_free(gateway->api);
	access_free(gateway->access);
	tls_release(gateway->tls);
	metrics_free(gateway->metrics);
	loop_timer_free(gateway->watchdog_timer);
	loop_timer_free(gateway->drain_timer);
	loop_free(gateway->loop);
	config_free(gateway->config);
}

ExitCode
daemon_run(const ConfigOrigin *from)
{
	Gateway	 gateway = {.from = *from};
	Buf		 error = {0};
	ExitCode code;

	gateway.config = config_load(from, &error);
	if (gateway.config == NULL)
	{
		log_error("%s", buf_str(&error));
		buf_free(&error);
		return EXIT_USAGE;
	}
	log_configure((LogLevel) gateway.config->log_level,
				  (LogFormat) gateway.config->log_format);
	/* a value of the user's counts */
	(void) setenv("RES_OPTIONS", "timeout:1 attempts:2", 0);
	log_info("starts version=%s", PGSTOCK_VERSION);
	code = daemon_start(&gateway);
	if (code == EXIT_CLEAN)
		code = daemon_loop(&gateway);
	daemon_stop(&gateway);
	return code;
}
