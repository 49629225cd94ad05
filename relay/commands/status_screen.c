/*
 * status_screen.c - what "status" shows a person
 *
 * A line that needs attention begins with "!" and is colored, if the terminal
 * has colors; problems stand at the top.  The limits are those of the alerts
 * in deploy/prometheus/pgstock.rules.yml.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/status_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/figures.h"
#include "common/rfc3339.h"
#include "common/safe_text.h"
#include "common/terminal.h"

#define LABEL_WIDTH	  14
#define TOPIC_MIN	  16
#define TOPIC_MAX	  40
#define LIST_MAX	  5	 /* of held topics and of gaps */
#define PLACES_MIN	  3	 /* on a screen of any size */
#define SMALL_LINES	  32 /* a screen of less has no empty lines */
#define LAG_MAX		  1000
#define PENDING_S_MAX 5.0
#define OVERDUE_MAX	  10

typedef struct Screen
{
	const Status	 *status;
	const Status	 *before; /* NULL: no rates */
	const StatusLook *look;
	Buf				 *text;
	Buf				  value; /* of the line that is being made */
} Screen;

/* ---- lines ------------------------------------------------------------- */

/* The bytes of text that fit into the columns, each character one column. */
static size_t
screen_fit(const Buf *text, int columns)
{
	size_t	at = 0;
	int32_t code;

	Assert(columns >= 0);
	for (int i = 0; at < text->len; i++)
	{
		if (columns > 0 && i == columns)
			return at;
		at += safe_decode(text->data + at, text->len - at, &code);
	}
	return at;
}

static void
screen_add_line(Screen *screen, TerminalStyle style, const char *line)
{
	bool colors = screen->look->colors;
	Buf	 safe = {0};

	safe_add(&safe, line, strlen(line));
	buf_add_str(screen->text, terminal_begin(style, colors));
	buf_add(screen->text, safe.data, screen_fit(&safe, screen->look->columns));
	buf_add_str(screen->text, terminal_end(style, colors));
	buf_add_str(screen->text, "\n");
	buf_free(&safe);
}

static void
screen_add_heading(Screen *screen, const char *heading)
{
	Assert(screen->value.len == 0); /* the line before is complete */
	if (screen->look->lines == 0 || screen->look->lines >= SMALL_LINES)
		buf_add_str(screen->text, "\n");
	screen_add_line(screen, STYLE_BOLD, heading);
}

/* A label, and screen->value, which is empty afterwards. */
static void
screen_add_value(Screen *screen, TerminalStyle style, const char *label)
{
	bool  bad = style == STYLE_BAD || style == STYLE_WARNING;
	char *line = xasprintf("%s %-*s %s", bad ? "!" : " ", LABEL_WIDTH, label,
						   buf_str(&screen->value));

	screen_add_line(screen, style, line);
	buf_clear(&screen->value);
	free(line);
}

static TerminalStyle
screen_mark(bool bad, TerminalStyle how)
{
	return bad ? how : STYLE_PLAIN;
}

/* ---- values ------------------------------------------------------------ */

static double
screen_seconds(const Screen *screen)
{
	return screen->before == NULL
			   ? 0
			   : (double) (screen->status->at_us - screen->before->at_us) /
					 SEC_US;
}

/* ", 12/s"; nothing without an earlier look.  What went back has no rate. */
static void
screen_add_rate(Screen *screen, const char *comma, int64_t change,
				const char *what)
{
	double seconds = screen_seconds(screen);

	Assert(seconds >= 0); /* the earlier look was before */
	if (seconds <= 0)
		return;
	buf_add_str(&screen->value, comma);
	figures_add_rate(&screen->value, (double) Max(change, 0) / seconds);
	buf_add_str(&screen->value, what);
}

/* How long ago the moment is for the database; -1: there is none. */
static int64_t
screen_age(const Screen *screen, const char *moment)
{
	const char *now_text = status_find(screen->status, STATUS_NOW);
	int64_t		now;
	int64_t		then;

	if (moment == NULL || now_text == NULL ||
		rfc3339_parse(now_text, &now) != RFC3339_VALID ||
		rfc3339_parse(moment, &then) != RFC3339_VALID)
		return -1;
	return Max(now - then, 0);
}

static void
screen_add_age(Screen *screen, const char *before, const char *moment,
			   const char *behind)
{
	int64_t age = screen_age(screen, moment);

	if (age < 0)
		return;
	buf_add_str(&screen->value, before);
	figures_add_duration(&screen->value, age);
	buf_add_str(&screen->value, behind);
}

static int64_t
screen_int(const Status *status, const char *name)
{
	const char *text = status_find(status, name);

	return text != NULL ? (int64_t) strtod(text, NULL) : 0;
}

/* The sum of a gauge of the database over its labels. */
static int64_t
screen_metric(const Status *status, const char *name)
{
	double sum = 0;

	for (int row = 0; row < PQntuples(status->metrics); row++)
		if (strcmp(PQgetvalue(status->metrics, row, 0), name) == 0)
			sum += strtod(PQgetvalue(status->metrics, row, 2), NULL);
	return (int64_t) sum;
}

/* ---- head -------------------------------------------------------------- */

static void
screen_add_head(Screen *screen)
{
	const Status *status = screen->status;
	const char	 *server = status_find(status, "server_version");
	const char	 *now = status_find(status, STATUS_NOW);
	const char	 *recovery = status_find(status, "in_recovery");
	size_t problems = status->problems != NULL ? strings_count(status->problems)
											   : 0;
	char  *line;

	line = xasprintf("database %s%s, pgstock-relay %s, pgstock %s, "
					 "PostgreSQL %.*s, %.19s UTC",
					 status->hello.database,
					 recovery != NULL && strcmp(recovery, "true") == 0
						 ? " (standby)"
						 : "",
					 PGSTOCK_VERSION, status->hello.extension_version,
					 (int) strcspn(server != NULL ? server : "?", " "),
					 server != NULL ? server : "?", now != NULL ? now : "?");
	screen_add_line(screen, STYLE_FAINT, line);
	free(line);
	line = xasprintf("status: %s", problems == 0 ? "ok" : "failing");
	screen_add_line(screen, problems == 0 ? STYLE_GOOD : STYLE_BAD, line);
	free(line);
	for (size_t i = 0; i < problems; i++)
	{
		line = xasprintf("! %s", status->problems[i]);
		screen_add_line(screen, STYLE_BAD, line);
		free(line);
	}
}

/* ---- lists ------------------------------------------------------------- */

static const char *
screen_detail(const Status *status, int row, int number)
{
	const char *text = api_text(status->rows, row, STATUS_FIRST_AT + number);

	return text != NULL ? text : "?";
}

static void
screen_make_held(Screen *screen, int row)
{
	const Status *status = screen->status;

	buf_printf(&screen->value, "%s: %s events",
			   api_text(status->rows, row, STATUS_TEXT_AT),
			   screen_detail(status, row, 0));
	screen_add_age(screen, ", for ", screen_detail(status, row, 1), "");
	buf_printf(&screen->value, ": %s", screen_detail(status, row, 2));
}

static void
screen_make_gap(Screen *screen, int row)
{
	const Status *status = screen->status;

	buf_printf(&screen->value, "%s: offsets %s to %s (%s)",
			   api_text(status->rows, row, STATUS_TEXT_AT),
			   screen_detail(status, row, 0), screen_detail(status, row, 1),
			   screen_detail(status, row, 3));
	screen_add_age(screen, ", found ", screen_detail(status, row, 2), " ago");
}

static void
screen_make_binding(Screen *screen, int row)
{
	const Status *status = screen->status;
	const char	 *type = api_text(status->rows, row, STATUS_FIRST_AT + 1);

	buf_printf(&screen->value, "%s%s%s: %s",
			   api_text(status->rows, row, STATUS_TEXT_AT),
			   type != NULL ? " " : "", type != NULL ? type : "",
			   screen_detail(status, row, 0));
}

/* The rows of one list, the first few of them. */
static void
screen_add_list(Screen *screen, TerminalStyle style, const char *label,
				const char *name, void (*make)(Screen *, int))
{
	const PGresult *rows = screen->status->rows;
	int				count = 0;

	for (int row = 0; row < PQntuples(rows); row++)
	{
		if (strcmp(api_text(rows, row, STATUS_NAME_AT), name) != 0)
			continue;
		if (++count > LIST_MAX)
			continue;
		make(screen, row);
		screen_add_value(screen, style, count == 1 ? label : "");
	}
	Assert(screen->value.len == 0);
	if (count == 0)
		buf_add_str(&screen->value, "none");
	else if (count > LIST_MAX)
		buf_printf(&screen->value, "and %d more: see --json", count - LIST_MAX);
	if (count == 0 || count > LIST_MAX)
		screen_add_value(screen, screen_mark(count > 0, style),
						 count == 0 ? label : "");
}

/* ---- sections ---------------------------------------------------------- */

static void
screen_add_outbox(Screen *screen)
{
	const Status *status = screen->status;
	const Status *before = screen->before;
	const char	 *leader = status_find(status, "leader");
	const char	 *oldest = status_find(status, "oldest_pending_seconds");
	const char	 *epoch = status_find(status, "epoch");
	const char	 *other = status_find(status, "other_publisher_retention");
	int64_t		  pending = screen_int(status, "pending_events");
	double		  seconds = oldest != NULL ? strtod(oldest, NULL) : 0;
	Buf			 *value = &screen->value;

	screen_add_heading(screen, "Outbox, to Kafka");
	buf_add_str(value, leader != NULL ? leader : "none");
	if (leader != NULL)
	{
		buf_printf(value, ", pid %" PRId64, screen_int(status, "leader_pid"));
		screen_add_age(screen, ", for ", status_find(status, "leader_since"),
					   "");
	}
	if (epoch != NULL)
		buf_printf(value, ", epoch %s", epoch);
	screen_add_value(screen,
					 screen_mark(leader == NULL && other == NULL, STYLE_BAD),
					 "leader");
	if (other != NULL)
	{
		buf_printf(value,
				   "another program publishes the outbox; its events are "
				   "removed after %s",
				   other);
		screen_add_value(screen, STYLE_PLAIN, "publisher");
	}
	figures_add_count(value, pending);
	buf_add_str(value, pending == 1 ? " event" : " events");
	if (pending > 0)
	{
		buf_add_str(value, ", the oldest ");
		figures_add_duration(value, (int64_t) (Max(seconds, 0.0) * SEC_US));
	}
	buf_add_str(value, "; the outbox has ");
	figures_add_bytes(value, screen_metric(status, "outbox_table_bytes"));
	screen_add_value(screen,
					 screen_mark(seconds > PENDING_S_MAX, STYLE_WARNING),
					 "pending");
	if (before != NULL)
	{
		int64_t written = status->last_seq - before->last_seq;

		screen_add_rate(screen, "",
						written -
							(pending - screen_int(before, "pending_events")),
						" published, ");
		screen_add_rate(screen, "", written, " written");
		screen_add_value(screen, STYLE_PLAIN, "rate");
	}
	buf_add_str(value, status_find(status, "position_trouble") == NULL
						   ? "valid"
						   : "of another history");
	screen_add_age(screen, ", stored ",
				   status_find(status, "position_stored_at"), " ago");
	screen_add_value(screen,
					 screen_mark(status_find(status, "position_trouble") !=
									 NULL,
								 STYLE_BAD),
					 "position");
	screen_add_list(screen, STYLE_BAD, "held topics", STATUS_HELD,
					screen_make_held);
}

static void
screen_add_messages(Screen *screen)
{
	const Status *status = screen->status;
	Buf			 *value = &screen->value;
	int64_t		  waiting = screen_int(status, "failed_waiting");
	int64_t		  open = screen_int(status, "archive_open");
	int64_t		  alerts = screen_int(status, "webhook_waiting");

	figures_add_count(value, waiting);
	if (waiting > 0)
	{
		buf_add_str(value, ", of ");
		figures_add_count(value, screen_metric(status, "inbox_waiting_keys"));
		buf_add_str(value, " keys");
	}
	screen_add_value(screen, STYLE_PLAIN, "waiting");
	figures_add_count(value, screen_int(status, "failed_archived"));
	buf_add_str(value, ", open: ");
	figures_add_count(value, open);
	if (alerts > 0)
	{
		buf_add_str(value, "; alerts to be sent: ");
		figures_add_count(value, alerts);
	}
	screen_add_value(screen, screen_mark(open > 0, STYLE_WARNING),
					 "dead letters");
	screen_add_list(screen, STYLE_WARNING, "missing", STATUS_GAP,
					screen_make_gap);
	/* a system that has the default ones only needs no line for them */
	if (status_find(status, STATUS_BINDING) != NULL)
		screen_add_list(screen, STYLE_PLAIN, "bindings", STATUS_BINDING,
						screen_make_binding);
}

static void
screen_add_stock(Screen *screen)
{
	const Status *status = screen->status;
	const char	 *trouble = status_find(status, "upkeep_trouble");
	int64_t		  overdue = screen_metric(status, "reservations_overdue");

	screen_add_heading(screen, "Stock");
	figures_add_count(&screen->value,
					  screen_metric(status, "reservations_open"));
	buf_add_str(&screen->value, " open, ");
	figures_add_count(&screen->value, overdue);
	buf_add_str(&screen->value, " overdue");
	screen_add_value(screen, screen_mark(overdue > OVERDUE_MAX, STYLE_WARNING),
					 "reservations");
	buf_printf(&screen->value, "%s: %s",
			   status->hello.preloaded ? "by the server's workers and the relay"
									   : "by the leading relay",
			   trouble != NULL ? trouble : "ok");
	screen_add_value(screen, screen_mark(trouble != NULL, STYLE_BAD), "upkeep");
}

/* ---- partitions -------------------------------------------------------- */

static int
screen_compare_lags(const void *a, const void *b)
{
	const StatusPlace *first = a;
	const StatusPlace *second = b;
	int				   topics = strcmp(first->topic, second->topic);

	if (first->lag != second->lag)
		return first->lag > second->lag ? -1 : 1;
	return topics != 0 ? topics
					   : (first->id > second->id) - (first->id < second->id);
}

/* The offset at the look before; the present one if it was not there. */
static int64_t
screen_next_before(const Screen *screen, const StatusPlace *place)
{
	const Status *before = screen->before;

	for (size_t i = 0; before != NULL && i < before->place_count; i++)
		if (before->places[i].id == place->id &&
			strcmp(before->places[i].topic, place->topic) == 0)
			return before->places[i].next;
	return place->next;
}

static void
screen_add_cell(Buf *line, int width, const char *text)
{
	buf_printf(line, "%*s", width, text);
}

static void
screen_add_place(Screen *screen, const StatusPlace *place, int topic_width)
{
	bool bad = place->lag > LAG_MAX ||
			   (place->end >= 0 && place->end < place->next);
	Buf line = {0};
	Buf cell = {0};

	buf_printf(&line, "%s %-*.*s %6d", bad ? "!" : " ", topic_width,
			   topic_width, place->topic, place->id);
	figures_add_count(&cell, place->next);
	screen_add_cell(&line, 17, buf_str(&cell));
	buf_clear(&cell);
	if (place->end >= 0)
		figures_add_count(&cell, place->end);
	screen_add_cell(&line, 17, place->end >= 0 ? buf_str(&cell) : "?");
	buf_clear(&cell);
	figures_add_count(&cell, place->lag);
	screen_add_cell(&line, 12, place->end >= 0 ? buf_str(&cell) : "?");
	if (screen_seconds(screen) > 0)
	{
		screen_add_rate(screen, "",
						place->next - screen_next_before(screen, place), "");
		screen_add_cell(&line, 12, buf_str(&screen->value));
		buf_clear(&screen->value);
	}
	screen_add_line(screen, screen_mark(bad, STYLE_BAD), buf_str(&line));
	buf_free(&line);
	buf_free(&cell);
}

static void
screen_add_totals(Screen *screen)
{
	const Status *status = screen->status;
	int64_t		  applied = 0;
	int64_t		  lag = 0;
	bool		  known = true;

	for (size_t i = 0; i < status->place_count; i++)
	{
		const StatusPlace *place = &status->places[i];

		lag += place->lag;
		applied += place->next - screen_next_before(screen, place);
		known = known && place->end >= 0;
	}
	figures_add_count(&screen->value, lag);
	buf_add_str(&screen->value, known ? " messages" : " messages or more");
	screen_add_rate(screen, ", ", applied, " applied");
	screen_add_value(screen, screen_mark(lag > LAG_MAX, STYLE_WARNING), "lag");
}

/* How many partitions fit, with a line before and one behind them. */
static size_t
screen_room(const Screen *screen)
{
	int used = 3; /* the last one is the cursor's */

	Assert(screen->look->lines > 0);
	for (size_t i = 0; i < screen->text->len; i++)
		used += screen->text->data[i] == '\n';
	return (size_t) Max(screen->look->lines - used, PLACES_MIN);
}

static void
screen_add_places(Screen *screen)
{
	const Status *status = screen->status;
	size_t		  count = status->place_count;
	size_t		  most = count;
	StatusPlace	 *places = xcalloc(count + 1, sizeof(StatusPlace));
	int			  width = TOPIC_MIN;
	char		 *line;

	if (count > 0)
		memcpy(places, status->places, count * sizeof(StatusPlace));
	for (size_t i = 0; i < count; i++)
		width = Max(width, (int) Min(strlen(places[i].topic), TOPIC_MAX));
	if (screen->look->lines > 0)
		most = screen_room(screen);
	/* where not all fit, those that are furthest behind */
	if (count > most)
		qsort(places, count, sizeof(StatusPlace), screen_compare_lags);
	line = xasprintf("  %-*s %6s%17s%17s%12s%s", width, "topic", "part.",
					 "next offset", "end", "lag",
					 screen_seconds(screen) > 0 ? "        rate" : "");
	if (count > 0)
		screen_add_line(screen, STYLE_FAINT, line);
	free(line);
	for (size_t i = 0; i < Min(count, most); i++)
		screen_add_place(screen, &places[i], width);
	if (count > most)
	{
		line = xasprintf("  and %zu partitions with less lag", count - most);
		screen_add_line(screen, STYLE_FAINT, line);
		free(line);
	}
	free(places);
}

static void
screen_add_inbox(Screen *screen)
{
	const Status *status = screen->status;
	char *heading = xasprintf("Inbox, from Kafka, group %s", status->group);

	screen_add_heading(screen, heading);
	free(heading);
	if (status->brokers > 0)
		buf_printf(&screen->value, "answers, %d broker%s", status->brokers,
				   status->brokers == 1 ? "" : "s");
	else
		buf_add_str(&screen->value, "does not answer");
	screen_add_value(screen, screen_mark(status->brokers == 0, STYLE_BAD),
					 "Kafka");
	screen_add_totals(screen);
	screen_add_messages(screen);
	screen_add_places(screen);
}

void
status_add_screen(const Status *status, const Status *before,
				  const StatusLook *look, Buf *text)
{
	Screen screen = {status, before, look, text, {0}};

	Assert(status->rows != NULL && status->metrics != NULL);
	screen_add_head(&screen);
	screen_add_outbox(&screen);
	screen_add_stock(&screen);
	screen_add_inbox(&screen);
	buf_free(&screen.value);
}
