/*
 * daemon.c - the daemon: start, loop, stop
 *
 * One thread.  Handlers of the loop record what happened; after each of them
 * the pumps decide and act (daemon_turn), then the process sleeps until the
 * next event, or until the earliest deadline that a pump returned.
 *
 * READY is notified when the configuration is valid and the loop runs: a
 * database or broker that is down is a state, not a failed start.  The watchdog
 * is notified only while both pumps act within their deadlines.
 *
 * No call of this thread waits for a server, except for these; the calls of
 * librdkafka that wait run in threads (transaction.c, survey.c):
 *
 *	call						waits for						at most
 *	pg_connection_connect()		the name server					6 s a host
 *	http_client_... timed out	its resolver's thread			6 s
 *	rd_kafka_destroy()			lookups in broker threads		6 s a client
 *		of a consumer			nothing: client_end.c
 *		with OAUTHBEARER, oidc	a request to the token server	20 s more
 *	watched_client_free()		an abort that is begun			0.4 s a client
 *	survey_close()				one call of the survey			2 s
 *	transaction_free()			calls left behind, at exit		3 s a call (one
 *												slice, two to end a commit)
 *	log_...()					a reader of the log that stalls	0.2 s a stall
 *	rd_kafka_assign(), _subscribe(), _new()		librdkafka's main thread,
 *												which waits for no broker
 *
 * 6 s is what RES_OPTIONS allows with three name servers that do not respond
 * (resolv.conf(5); without it, 30 s).  The sum of one turn that connects both
 * pumps and the alerts, and closes four clients and a survey, is below 45 s.
 * The watchdog is notified in each quarter of its interval, 60 s in our unit:
 * 15 s and that sum are less.  With tokens of a server the interval is longer
 * by what the closing of four clients adds (TOKENS_US): librdkafka cannot
 * cancel its request.  At the end of the process nothing waits for longer than
 * END_S: what matters is stored by then.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alerts/webhook.h"
#include "common/http_server.h"
#include "common/json.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/process_metrics.h"
#include "inbox/pump.h"
#include "kafka/client.h"
#include "kafka/trouble.h"
#include "outbox/pump.h"

#define LOG_MODULE "relay"

#define DRAIN_US		(10 * SEC_US) /* from SIGTERM to the end of the loop */
#define END_S			5			  /* from then to the end of the process */
#define CONSUMERS_END_S 1			  /* of these, for consumers */

/* What the closing of clients may add where tokens come from a server. */
#define TOKENS_US (4 * 20 * SEC_US)

_Static_assert(DRAIN_US % SEC_US == 0, "alarm() takes whole seconds");
_Static_assert(CONSUMERS_END_S < END_S, "consumers are not all that ends");

typedef struct Relay
{
	ConfigOverrides from; /* for a reload */
	Config		   *config;
	Loop		   *loop;
	LoopTimer	   *turn_timer; /* wakes the loop for the next turn */
	LoopTimer	   *watchdog_timer;
	int64_t			watchdog_us; /* its interval; 0: there is none */
	Metrics		   *metrics;
	Outbox		   *outbox;
	Inbox		   *inbox;
	Webhook		   *webhook;
	HttpServer	   *http;			 /* NULL: [http] listen is empty */
	PumpState		notified_outbox; /* in the last STATUS */
	PumpState		notified_inbox;
	bool			stopping;
	bool			hurried; /* a second SIGTERM */
} Relay;

/* ---- pages ------------------------------------------------------------- */

static bool
daemon_is_ready(Relay *relay, Buf *body)
{
	bool outbox = outbox_is_ready(relay->outbox, body);
	bool inbox;

	buf_add_str(body, outbox ? ": ok\n" : ": failing\n");
	inbox = inbox_is_ready(relay->inbox, body);
	buf_add_str(body, inbox ? ": ok\n" : ": failing\n");
	return outbox && inbox && !relay->stopping;
}

static bool
daemon_is_overdue(const Relay *relay)
{
	return outbox_is_overdue(relay->outbox) || inbox_is_overdue(relay->inbox);
}

static void
daemon_status(Relay *relay, HttpServerResponse *answer)
{
	Buf	 sentence = {0};
	bool ready = daemon_is_ready(relay, &sentence);

	buf_free(&sentence);
	answer->type = "application/json";
	buf_printf(&answer->body,
			   "{\"status\":\"%s\",\"version\":\"%s\","
			   "\"name\":",
			   ready ? "ok" : "failing", PGSTOCK_VERSION);
	json_add_string(&answer->body, relay->config->name);
	buf_add_str(&answer->body, ",\"components\":{\"outbox\":");
	outbox_status_json(relay->outbox, &answer->body);
	buf_add_str(&answer->body, ",\"inbox\":");
	inbox_status_json(relay->inbox, &answer->body);
	buf_add_str(&answer->body, ",\"webhook\":");
	webhook_status_json(relay->webhook, &answer->body);
	buf_add_str(&answer->body, "}}\n");
}

static void
daemon_show_ready(Relay *relay)
{
	Buf sentence = {0};

	*metrics_cell(relay->metrics, METRIC_READY,
				  NULL) = daemon_is_ready(relay, &sentence);
	buf_free(&sentence);
}

static void
daemon_page(void *arg, const char *path, HttpServerResponse *answer)
{
	Relay *relay = arg;

	if (strcmp(path, "/metrics") == 0)
	{
		inbox_refresh_metrics(relay->inbox);
		if (answer->may_wait && !inbox_metrics_are_new(relay->inbox))
		{
			answer->status = HTTP_SERVER_LATER;
			return;
		}
		answer->status = 200;
		answer->type = "text/plain; version=0.0.4";
		daemon_show_ready(relay);
		metrics_render(relay->metrics, &answer->body);
		process_metrics_render(&answer->body);
	}
	else if (strcmp(path, "/livez") == 0)
	{
		answer->status = daemon_is_overdue(relay) ? 503 : 200;
		buf_add_str(&answer->body,
					answer->status == 200 ? "ok\n" : "a pump is overdue\n");
	}
	else if (strcmp(path, "/readyz") == 0)
		answer->status = daemon_is_ready(relay, &answer->body) ? 200 : 503;
	else if (strcmp(path, "/status") == 0)
	{
		answer->status = 200;
		daemon_status(relay, answer);
	}
}

/* ---- the end at the latest --------------------------------------------- */

static volatile sig_atomic_t daemon_code; /* of a process that is cut short */

static void
daemon_on_overdue(int signal_number UNUSED)
{
	_exit(daemon_code);
}

static void
daemon_end_by(int signal_number)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signal_number);
	signal(signal_number, daemon_on_overdue);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* Wherever it is then, also in a call of a library that does not return. */
static void
daemon_end_within(unsigned seconds, ExitCode code)
{
	Assert(seconds > 0); /* 0 would cancel the alarm */
	daemon_code = (sig_atomic_t) code;
	daemon_end_by(SIGALRM);
	(void) alarm(seconds);
}

/* ---- signals and timers ------------------------------------------------ */

static void
daemon_on_stop(void *arg)
{
	Relay  *relay = arg;
	int64_t stop_by = loop_now(relay->loop) + DRAIN_US;

	if (relay->stopping)
	{
		relay->hurried = true;
		return;
	}
	relay->stopping = true;
	daemon_end_within(DRAIN_US / SEC_US + END_S, EXIT_RUNTIME);
	log_info("shutting down, waiting for in-flight messages");
	loop_notify("STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRId64,
				DRAIN_US + 5 * SEC_US);
	outbox_stop(relay->outbox, stop_by);
	inbox_stop(relay->inbox, stop_by);
	webhook_stop(relay->webhook, stop_by);
}

static void
daemon_on_reload(void *arg)
{
	Relay  *relay = arg;
	Buf		error = {0};
	Buf		restart = {0};
	Config *fresh;

	loop_notify("RELOADING=1\nMONOTONIC_USEC=%" PRId64, loop_now(relay->loop));
	fresh = config_load(&relay->from, &error);
	if (fresh == NULL)
		log_error("keeping the old configuration: %s", buf_str(&error));
	else
	{
		config_reload(relay->config, fresh, &restart);
		log_configure((LogLevel) relay->config->log_level,
					  (LogFormat) relay->config->log_format);
		outbox_reconfigured(relay->outbox);
		inbox_reconfigured(relay->inbox);
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
daemon_on_status_signal(void *arg)
{
	HttpServerResponse answer = {0};

	daemon_status(arg, &answer);
	log_info("%s", buf_str(&answer.body));
	buf_free(&answer.body);
}

/*
 * Notifies the watchdog from now on, and first sets a longer interval where the
 * loop may wait for longer.
 */
static void
daemon_start_watchdog(Relay *relay)
{
	relay->watchdog_us = loop_watchdog_us();
	if (relay->watchdog_us == 0)
		return;
	if (config_kafka_get(relay->config,
						 "sasl.oauthbearer.token.endpoint.url") != NULL)
		loop_notify("WATCHDOG_USEC=%" PRId64, relay->watchdog_us + TOKENS_US);
	loop_timer_set(relay->watchdog_timer, loop_now(relay->loop));
}

static void
daemon_on_watchdog(void *arg)
{
	Relay *relay = arg;

	Assert(relay->watchdog_us > 0);
	if (daemon_is_overdue(relay))
		log_error("a pump is overdue: the watchdog is not notified");
	else
		loop_notify("WATCHDOG=1");
	loop_timer_set(relay->watchdog_timer,
				   loop_now(relay->loop) + relay->watchdog_us / 4);
}

static void
daemon_on_turn(void *arg UNUSED)
{
	/* it woke the loop: daemon_turn() follows */
}

/* ---- start, loop, stop ------------------------------------------------- */

/*
 * EXIT_USAGE only where another start would fail like this one; otherwise
 * systemd starts the relay again.  "check" agrees.
 */
static ExitCode
daemon_listen(Relay *relay)
{
	Buf error = {0};
	int reason;

	Assert(relay->http == NULL);
	if (relay->config->http_listen[0] == '\0')
		return EXIT_CLEAN;
	relay->http = http_server_new(relay->loop, relay->config->http_listen,
								  daemon_page, relay, &error);
	if (relay->http != NULL)
		return EXIT_CLEAN;
	reason = errno;
	log_error("%s%s", buf_str(&error),
			  reason == EADDRINUSE || reason == EADDRNOTAVAIL ||
					  reason == EACCES || reason == EINVAL
				  ? "; set \"listen\" in [http] to an address that is free"
				  : "");
	buf_free(&error);
	return listener_may_pass(reason) ? EXIT_RUNTIME : EXIT_USAGE;
}

static void
daemon_watch_signals(Relay *relay)
{
	/* errors of a write: a peer that has left, a log that may not grow */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	loop_signal(relay->loop, SIGTERM, daemon_on_stop, relay);
	loop_signal(relay->loop, SIGINT, daemon_on_stop, relay);
	loop_signal(relay->loop, SIGHUP, daemon_on_reload, relay);
	loop_signal(relay->loop, SIGUSR1, daemon_on_status_signal, relay);
}

/*
 * In this thread, and so in those that it starts: a thread in which one is not
 * blocked would take it in place of the loop, and the process would die.
 */
static bool
daemon_signals_are_blocked(void)
{
	sigset_t blocked;

	return pthread_sigmask(SIG_BLOCK, NULL, &blocked) == 0 &&
		   sigismember(&blocked, SIGTERM) == 1 &&
		   sigismember(&blocked, SIGINT) == 1 &&
		   sigismember(&blocked, SIGHUP) == 1 &&
		   sigismember(&blocked, SIGUSR1) == 1;
}

/* Before the broker's "invalid credentials", which names no version. */
static void
daemon_warn_of_scram(const Relay *relay)
{
	Buf why = {0};

	if (!kafka_scram_is_limited(relay->config))
		return;
	kafka_describe_scram(&why);
	log_warning("%s", buf_str(&why));
	buf_free(&why);
}

/* Order matters: signals are blocked before librdkafka starts threads. */
static ExitCode
daemon_start(Relay *relay)
{
	char	 libpq[16];
	ExitCode code;

	relay->loop = loop_new();
	daemon_watch_signals(relay);
	relay->metrics = metrics_new(&metric_table);
	snprintf(libpq, sizeof(libpq), "%d", PQlibVersion());
	*metrics_cell(relay->metrics, METRIC_BUILD_INFO, "version", PGSTOCK_VERSION,
				  "libpq", libpq, "librdkafka", rd_kafka_version_str(),
				  NULL) = 1;
	log_info("starts version=%s libpq=%s librdkafka=%s name=%s",
			 PGSTOCK_VERSION, libpq, rd_kafka_version_str(),
			 relay->config->name);
	daemon_warn_of_scram(relay);
	relay->turn_timer = loop_timer_new(relay->loop, daemon_on_turn, relay);
	relay->watchdog_timer = loop_timer_new(relay->loop, daemon_on_watchdog,
										   relay);
	Assert(daemon_signals_are_blocked());
	relay->outbox = outbox_new(relay->loop, relay->config, relay->metrics);
	relay->inbox = inbox_new(relay->loop, relay->config, relay->metrics);
	relay->webhook = webhook_new(relay->loop, relay->config, relay->metrics);
	code = daemon_listen(relay);
	if (code != EXIT_CLEAN)
		return code;
	daemon_start_watchdog(relay);
	loop_notify("READY=1");
	return EXIT_CLEAN;
}

static void
daemon_notify_status(Relay *relay)
{
	PumpState outbox = outbox_pump_state(relay->outbox);
	PumpState inbox = inbox_pump_state(relay->inbox);

	if (outbox == relay->notified_outbox && inbox == relay->notified_inbox)
		return;
	relay->notified_outbox = outbox;
	relay->notified_inbox = inbox;
	loop_notify("STATUS=outbox %s, inbox %s", pump_state_name(outbox),
				pump_state_name(inbox));
}

static void
daemon_turn(Relay *relay)
{
	int64_t outbox_at = outbox_turn(relay->outbox);
	bool	leads = outbox_is_leader(relay->outbox);
	int64_t inbox_at = inbox_turn(relay->inbox, leads);
	int64_t webhook_at = webhook_turn(relay->webhook, leads);

	if (inbox_metrics_are_new(relay->inbox))
		http_server_wake(relay->http);
	loop_timer_set(relay->turn_timer,
				   Min(Min(outbox_at, inbox_at), webhook_at));
	daemon_notify_status(relay);
}

static bool
daemon_is_over(const Relay *relay)
{
	Assert(relay->stopping || !relay->hurried);
	if (relay->hurried || outbox_exit_code(relay->outbox) != EXIT_CLEAN ||
		inbox_exit_code(relay->inbox) != EXIT_CLEAN)
		return true;
	return outbox_is_done(relay->outbox) && inbox_is_done(relay->inbox) &&
		   webhook_is_done(relay->webhook);
}

static ExitCode
daemon_loop(Relay *relay)
{
	int code;

	daemon_turn(relay);
	while (!daemon_is_over(relay))
	{
		loop_turn(relay->loop);
		daemon_turn(relay);
	}
	code = outbox_exit_code(relay->outbox);
	if (code == EXIT_CLEAN)
		code = inbox_exit_code(relay->inbox);
	Assert(code != EXIT_CLEAN || relay->stopping);
	if (code == EXIT_CLEAN && relay->hurried)
		code = EXIT_RUNTIME;
	log_info("exiting exit_code=%d", code);
	return (ExitCode) code;
}

/*
 * In reverse order of the start.  Nothing is lost if it is cut short: the loop
 * has ended, and what is left is memory, and connections that the system
 * closes.  exit() would free what the threads of a client still use.
 */
static void
daemon_end(Relay *relay, ExitCode code)
{
	daemon_end_within(END_S, code);
	daemon_end_by(SIGTERM);
	daemon_end_by(SIGINT);
	http_server_free(relay->http);
	webhook_free(relay->webhook);
	inbox_free(relay->inbox);
	outbox_free(relay->outbox);
	loop_timer_free(relay->watchdog_timer);
	loop_timer_free(relay->turn_timer);
	metrics_free(relay->metrics);
	loop_free(relay->loop);
	config_free(relay->config);
	if (!kafka_consumers_ended(CONSUMERS_END_S))
		_exit(code);
}

ExitCode
daemon_run(const ConfigOverrides *from)
{
	Relay	 relay = {.from = *from};
	Buf		 error = {0};
	ExitCode code;

	relay.config = config_load(from, &error);
	if (relay.config == NULL)
	{
		log_error("%s", buf_str(&error));
		buf_free(&error);
		return EXIT_USAGE;
	}
	log_configure((LogLevel) relay.config->log_level,
				  (LogFormat) relay.config->log_format);
	/* before any thread is started; a value of the user's counts */
	(void) setenv("RES_OPTIONS", "timeout:1 attempts:2", 0);
	/* librdkafka's threads do not need heaps of their own */
	mallopt(M_ARENA_MAX, 2);
	code = daemon_start(&relay);
	if (code == EXIT_CLEAN)
		code = daemon_loop(&relay);
	daemon_end(&relay, code);
	return code;
}
