/*
 * webhook.c - sends alerts about messages that were given up
 *
 * A connection of its own, only while this relay leads and a url is set: a
 * batch of messages that waits for a lock must not delay the alert.  Then, in
 * turn: read the alerts that are due (relay_alerts), send them in one request,
 * record the result (relay_alerted), rest.  The time for the next try of alerts
 * that could not be sent is in the database, so a restart does not hurry it.
 *
 * A failure here does not make the relay unready: stock and events do not
 * depend on alerts.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "alerts/webhook.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "alerts/format.h"
#include "common/backoff.h"
#include "common/destination.h"
#include "common/http_client.h"
#include "common/json.h"
#include "common/log.h"
#include "db/api.h"
#include "db/connect.h"

#define LOG_MODULE "webhook"
#define AGENT	   "pgstock-relay/" PGSTOCK_VERSION

/* A database that does not answer: the alerts can wait. */
#define WEBHOOK_ANSWER_US (15 * SEC_US)

typedef enum WebhookState
{
	WEBHOOK_OFF, /* no url, or another relay leads */
	WEBHOOK_DOWN,
	WEBHOOK_CONNECTING,
	WEBHOOK_RESTING,
	WEBHOOK_READING, /* the alerts that are due */
	WEBHOOK_SENDING,
	WEBHOOK_RECORDING, /* the result */
} WebhookState;

struct Webhook
{
	Loop		 *loop;
	const Config *config;
	Metrics		 *metrics;
	PgConnection *conn;
	HttpClient	 *client; /* NULL before the first request */
	WebhookState  state;
	int64_t		  at;	  /* next try to connect, or to read */
	PGresult	 *alerts; /* under way; NULL: none */
	Backoff		  retry;
	Buf			  trouble; /* last failure; empty after a success */
	LogThrottle	  db_throttle;
	LogThrottle	  request_throttle;
	bool		  stopping;
	int64_t		  stop_by;
};

static void webhook_on_conn(void *arg, PgConnectionEvent event,
							PGresult *result);
static bool webhook_allows_address(void *arg, const struct sockaddr *address);
static void webhook_sent(void *arg, const HttpClientResponse *response);

/* ---- life -------------------------------------------------------------- */

Webhook *
webhook_new(Loop *loop, const Config *config, Metrics *metrics)
{
	static const char *const results[] = {"sent", "failed", "refused"};
	Webhook					*webhook = xcalloc(1, sizeof(Webhook));

	webhook->loop = loop;
	webhook->config = config;
	webhook->metrics = metrics;
	webhook->conn = pg_connection_new(loop, WEBHOOK_ANSWER_US, webhook_on_conn,
									  webhook);
	backoff_init(&webhook->retry, 500 * MS_US, 30 * SEC_US,
				 (uint64_t) getpid() * 17 + (uint64_t) loop_now(loop));
	for (size_t i = 0; i < Lengthof(results); i++)
		*metrics_cell(metrics, METRIC_WEBHOOK, "result", results[i], NULL) = 0;
	return webhook;
}

static void
webhook_drop(Webhook *webhook)
{
	PQclear(webhook->alerts);
	webhook->alerts = NULL;
}

/* Abandons the request under way; the alerts are read again later. */
static void
webhook_close(Webhook *webhook, WebhookState state)
{
	if (webhook->client != NULL)
		http_client_cancel(webhook->client);
	webhook_drop(webhook);
	pg_connection_close(webhook->conn);
	webhook->state = state;
}

void
webhook_free(Webhook *webhook)
{
	if (webhook == NULL)
		return;
	webhook_close(webhook, WEBHOOK_OFF);
	http_client_free(webhook->client);
	pg_connection_free(webhook->conn);
	buf_free(&webhook->trouble);
	free(webhook);
}

/* ---- trouble ----------------------------------------------------------- */

static void
webhook_set_trouble(Webhook *webhook, const char *what, const char *why)
{
	buf_clear(&webhook->trouble);
	buf_printf(&webhook->trouble, "%s: %s", what, why);
	buf_str(&webhook->trouble);
}

static void
webhook_db_failed(Webhook *webhook, const char *why)
{
	int64_t now = loop_now(webhook->loop);

	webhook_set_trouble(webhook, "database", why);
	webhook_close(webhook, WEBHOOK_DOWN);
	webhook->at = now + backoff_failed(&webhook->retry);
	log_throttled(&webhook->db_throttle, now, LEVEL_WARNING, LOG_MODULE,
				  "could not use the database: %s", why);
}

/* ---- a request --------------------------------------------------------- */

static bool
webhook_allows_address(void *arg, const struct sockaddr *address)
{
	const Webhook *webhook = arg;

	return destination_allows(webhook->config->webhook_allow, address);
}

static const AlertFormat *
webhook_format(const Webhook *webhook)
{
	return &alert_formats[webhook->config->webhook_format];
}

static void
webhook_write_body(const Webhook *webhook, Buf *body)
{
	Alert	   alerts[WEBHOOK_ALERTS_MAX + 1]; /* the backlog's is one more */
	AlertBatch batch = {.relay = webhook->config->name, .alerts = alerts};
	size_t	   rows = (size_t) PQntuples(webhook->alerts);

	for (; batch.count < Min(rows, Lengthof(alerts)); batch.count++)
		alerts[batch.count] = (Alert){
			.json = PQgetvalue(webhook->alerts, (int) batch.count, 1),
			.line = PQgetvalue(webhook->alerts, (int) batch.count, 2),
		};
	webhook_format(webhook)->write(&batch, body);
}

/*
 * The signature stands in two headers, and in the url where the channel has
 * one of its own.
 */
static void
webhook_send(Webhook *webhook)
{
	const Config	  *config = webhook->config;
	const AlertFormat *format = webhook_format(webhook);
	const char		  *secret = config->webhook_secret;
	bool			   signs = secret[0] != '\0';
	int64_t			   now_s = (int64_t) time(NULL);
	char			   digits[ALERT_SIGNATURE_LEN + 1];
	const char		  *headers[4] = {"Content-Type: application/json"};
	char *stamp = xasprintf("X-Pgstock-Timestamp: %" PRId64, now_s);
	char *signature = NULL;
	Buf	  url = {0};
	Buf	  body = {0};

	Assert(webhook->state == WEBHOOK_SENDING && webhook->client != NULL);
	webhook_write_body(webhook, &body);
	format_signature(secret, now_s, &body, digits);
	signature = xasprintf("X-Pgstock-Signature: sha256=%s", digits);
	buf_add_str(&url, config->webhook_url);
	if (signs && format->sign_url != NULL)
		format->sign_url(&url, secret, now_s * 1000);
	headers[1] = stamp;
	headers[2] = signs ? signature : NULL;
	http_client_send(webhook->client, &(HttpClientRequest){
										  .url = buf_str(&url),
										  .agent = AGENT,
										  .ca = config->webhook_ca,
										  .plain = config->webhook_allow_http,
										  .headers = headers,
										  .body = &body,
									  });
	free(stamp);
	free(signature);
	buf_free(&url);
	buf_free(&body);
}

/* NULL if the alerts were accepted, else why not. */
static const char *
webhook_fault(const Webhook *webhook, const HttpClientResponse *response,
			  Buf *text)
{
	const AlertFormat *format = webhook_format(webhook);

	if (response->error != NULL)
		return response->error;
	if (response->status < 200 || response->status > 299)
		buf_printf(text, "HTTP status %d", response->status);
	else if (format->is_accepted != NULL &&
			 !format->is_accepted(response->body))
		buf_add_str(text, "its answer does not say errcode 0");
	return text->len > 0 ? buf_str(text) : NULL;
}

static void
webhook_sent(void *arg, const HttpClientResponse *response)
{
	Webhook	   *webhook = arg;
	Buf			text = {0};
	const char *fault = webhook_fault(webhook, response, &text);

	Assert(webhook->state == WEBHOOK_SENDING && webhook->alerts != NULL);
	*metrics_cell(webhook->metrics, METRIC_WEBHOOK, "result",
				  fault == NULL		  ? "sent"
				  : response->refused ? "refused"
									  : "failed",
				  NULL) += 1;
	if (fault == NULL)
	{
		buf_clear(&webhook->trouble);
		log_recovered(&webhook->request_throttle);
		log_info("alerts sent n=%d", PQntuples(webhook->alerts));
	}
	else
	{
		webhook_set_trouble(webhook, "request", fault);
		log_throttled(&webhook->request_throttle, loop_now(webhook->loop),
					  LEVEL_WARNING, LOG_MODULE,
					  "alerts could not be sent, tries again: %s n=%d", fault,
					  PQntuples(webhook->alerts));
	}
	webhook->state = WEBHOOK_RECORDING;
	api_call_alerted(webhook->conn, webhook->alerts, fault == NULL);
	webhook_drop(webhook);
	buf_free(&text);
}

/* ---- the database ------------------------------------------------------ */

static void
webhook_rest(Webhook *webhook)
{
	webhook->state = WEBHOOK_RESTING;
	webhook->at = loop_now(webhook->loop) + WEBHOOK_READ_US;
}

/* Keeps the result if it has alerts to send. */
static void
webhook_take_alerts(Webhook *webhook, PGresult *result)
{
	Assert(webhook->state == WEBHOOK_READING);
	backoff_succeeded(&webhook->retry);
	log_recovered(&webhook->db_throttle);
	if (PQntuples(result) == 0 || webhook->stopping ||
		webhook->config->webhook_url[0] == '\0')
	{
		PQclear(result);
		webhook_rest(webhook);
		return;
	}
	if (webhook->client == NULL)
		webhook->client = http_client_new(webhook->loop, webhook_allows_address,
										  webhook_sent, webhook);
	Assert(webhook->alerts == NULL);
	webhook->alerts = result;
	webhook->state = WEBHOOK_SENDING;
	webhook_send(webhook);
}

static void
webhook_take_answer(Webhook *webhook, PGresult *result)
{
	if (api_sqlstate(result) != NULL)
	{
		char *text = api_error_text(result);

		PQclear(result);
		webhook_db_failed(webhook, text);
		free(text);
	}
	else if (webhook->state == WEBHOOK_READING)
		webhook_take_alerts(webhook, result);
	else
	{
		Assert(webhook->state == WEBHOOK_RECORDING);
		PQclear(result);
		webhook_rest(webhook);
	}
}

static void
webhook_on_conn(void *arg, PgConnectionEvent event, PGresult *result)
{
	Webhook *webhook = arg;

	switch (event)
	{
		case PG_CONNECTION_UP:
			Assert(webhook->state == WEBHOOK_CONNECTING);
			webhook->state = WEBHOOK_RESTING;
			webhook->at = loop_now(webhook->loop);
			break;
		case PG_CONNECTION_DOWN:
			webhook_db_failed(webhook, pg_connection_error(webhook->conn));
			break;
		case PG_CONNECTION_NOTIFY:
			break;
		case PG_CONNECTION_RESULT:
			webhook_take_answer(webhook, result);
			break;
	}
}

/* ---- turns ------------------------------------------------------------- */

static bool
webhook_is_busy(const Webhook *webhook)
{
	return webhook->state == WEBHOOK_SENDING ||
		   webhook->state == WEBHOOK_RECORDING;
}

int64_t
webhook_turn(Webhook *webhook, bool leads)
{
	const Config *config = webhook->config;
	int64_t		  now = loop_now(webhook->loop);
	bool wanted = leads && config->webhook_url[0] != '\0' && !webhook->stopping;

	Assert((webhook->alerts != NULL) == (webhook->state == WEBHOOK_SENDING));
	if (webhook_is_busy(webhook))
		return webhook->stopping ? webhook->stop_by : NEVER;
	if (!wanted)
	{
		if (webhook->state != WEBHOOK_OFF)
			webhook_close(webhook, WEBHOOK_OFF);
		return NEVER;
	}
	if (webhook->state == WEBHOOK_OFF)
	{
		webhook->state = WEBHOOK_DOWN;
		webhook->at = now;
	}
	if (now >= webhook->at && webhook->state == WEBHOOK_DOWN)
	{
		webhook->state = WEBHOOK_CONNECTING;
		db_connect(webhook->conn, config, "on", 0);
	}
	else if (now >= webhook->at && webhook->state == WEBHOOK_RESTING)
	{
		webhook->state = WEBHOOK_READING;
		api_call_alerts(webhook->conn, config->webhook_backlog,
						WEBHOOK_ALERTS_MAX);
	}
	return webhook->state == WEBHOOK_DOWN || webhook->state == WEBHOOK_RESTING
			   ? webhook->at
			   : NEVER;
}

void
webhook_stop(Webhook *webhook, int64_t stop_by)
{
	Assert(!webhook->stopping);
	webhook->stopping = true;
	webhook->stop_by = stop_by;
}

bool
webhook_is_done(const Webhook *webhook)
{
	return !webhook_is_busy(webhook) ||
		   (webhook->stopping && loop_now(webhook->loop) >= webhook->stop_by);
}

/* ---- readiness --------------------------------------------------------- */

/* Whether alerts are delivered; true where none are sent. */
static bool
webhook_is_well(const Webhook *webhook)
{
	return webhook->state == WEBHOOK_OFF || webhook->trouble.len == 0;
}

void
webhook_status_json(Webhook *webhook, Buf *json)
{
	const char *detail = "sends alerts";

	if (webhook->config->webhook_url[0] == '\0')
		detail = "no url: sends no alerts";
	else if (webhook->state == WEBHOOK_OFF)
		detail = "the relay that leads sends alerts";
	else if (webhook->trouble.len > 0)
		detail = buf_str(&webhook->trouble);
	buf_printf(json, "{\"status\":\"%s\",\"detail\":",
			   webhook_is_well(webhook) ? "ok" : "failing");
	json_add_string(json, detail);
	buf_add_str(json, "}");
}
