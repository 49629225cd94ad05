/*
 * api.h - the database's functions for the relay (docs/relay-protocol.md)
 *
 * The only files with their names, parameters and columns.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_DB_API_H
#define PGSTOCK_DB_API_H

#include "common/exit_code.h"
#include "common/pg_connection.h"
#include "db/event.h"

#define API_VERSION 1

/* SQLSTATEs of ours */
#define API_FOREIGN_POSITION "SK020"
#define API_NEWER_LEADER	 "SK021"
#define API_DAMAGED_POSITION "SK022"
#define API_OTHER_PUBLISHER	 "SK023"

typedef enum ApiCall
{
	API_HELLO,
	API_LISTEN,
	API_ECHO, /* a notification to ourselves */
	API_TOPICS,
	API_LEAD,
	API_BEAT,
	API_POSITION,
	API_POSITION_OF, /* with the one that Kafka has */
	API_LOOK,
	API_SLEEP,
	API_PAGE,
	API_STORE,
	API_HELD,
	API_HOLD,
	API_SET_ASIDE,
	API_HELD_PAGE,
	API_CROSS_OFF,
	API_OFFSETS,
	API_BEGIN_TOPIC,
	API_MOVE_OFFSET,
	API_FINGERPRINT,
	API_APPLY,
	API_APPLY_FAILED,
	API_RETRY,
	API_METRICS,
	API_PURGE,
	API_EXPIRE,
	API_LEVELS,
	API_LEVEL_OFFSETS,
	API_LEVELS_READ,
	API_ALERTS,
	API_ALERTED,
	API_ADOPT,
	API_STATUS,
	API_OUTBOX_RANGE,
	API_REPLAY,
	API_SNAPSHOT,
	API_REWIND,
	API_FAILED,
	API_FAILED_COUNT,
	API_FAILED_ACT,
	API_DISCARD_HELD,
	API_ORDER,
	API_REPORT,
	API_AUDIT_PAGE,
	API_AUDIT_HOLDS,
	API_SERVER, /* works without the extension */
	API_CHECK,
	API_CALLS, /* their number */
} ApiCall;

/* Calls without parameters, and those with a few. */
void api_call(PgConnection *conn, ApiCall call);
void api_call_position(PgConnection *conn, Slice kafka); /* data NULL: none */
void api_call_with(PgConnection *conn, ApiCall call, const PgParam *params);
void api_call_look(PgConnection *conn, const char *window,
				   const char *publish_after, uint32_t max_rows,
				   uint32_t max_bytes);
void api_call_sleep(PgConnection *conn, const char *window,
					const char *publish_after);
void api_call_page(PgConnection *conn, const char *window, int64_t after_seq,
				   uint32_t max_rows, uint32_t max_bytes);
void api_call_store(PgConnection *conn, const char *window, int64_t seq,
					bool finished, int64_t epoch);
void api_call_hold(PgConnection *conn, const char *topic, const char *reason,
				   int64_t epoch);
void api_call_set_aside(PgConnection *conn, const int64_t *seqs, uint32_t count,
						int64_t epoch);
void api_call_held_page(PgConnection *conn, const char *topic,
						uint32_t max_rows, uint32_t max_bytes);
void api_call_cross_off(PgConnection *conn, const char *topic,
						const int64_t *seqs, uint32_t count, bool resume,
						int64_t epoch);
void api_call_offsets(PgConnection *conn, char *const *topics);
void api_call_retry(PgConnection *conn, int rows, const char *options);
void api_call_purge(PgConnection *conn, int64_t retention_us, int64_t dedup_us,
					int rows);
void api_call_expire(PgConnection *conn, int rows);
/* topic: NULL turns the stream off; since: of the last answer, or NULL */
void api_call_levels(PgConnection *conn, const char *topic, const char *since,
					 int rows);
void api_call_alerts(PgConnection *conn, int64_t backlog, int rows);
/* alerts: an answer to that, whose rows were sent, or were not */
void api_call_alerted(PgConnection *conn, const PGresult *alerts, bool sent);

/* A number as a text parameter, in memory of the caller's. */
typedef struct NumberText
{
	char text[24];
} NumberText;

PgParam api_number(NumberText *memory, int64_t number);
PgParam api_bytes(Slice bytes); /* data NULL: NULL */
void	api_int8_array(Buf *array, const int64_t *numbers, uint32_t count);

/*
 * The same, waiting: for commands that are not the loop.  A wait of more than
 * API_PATIENCE_US is reported to the function that was set, several times a
 * second.
 */
#define API_PATIENCE_US (2 * SEC_US)
void api_set_waiting(void (*waiting)(int64_t us));

/* The result of the statement that was sent; an error's, if that failed. */
PGresult *api_wait(PGconn *pg);

PGresult *api_exec(PGconn *pg, ApiCall call, const PgParam *params);
PGresult *api_exec_offsets(PGconn *pg, char *const *topics); /* NULL: all */

/* A batch of messages as the parameters of relay_apply(). */
typedef struct ApiBatch
{
	Buf		 arrays[7]; /* topics, partitions, ... in binary */
	uint32_t count;
} ApiBatch;

typedef struct ApiMessage
{
	Slice	topic;
	int32_t partition;
	int64_t offset;
	int64_t timestamp_ms; /* -1: none */
	Slice	key;
	Slice	value;
	Slice	headers; /* packed */
} ApiMessage;

void api_batch_begin(ApiBatch *batch);
/* params: one for each array */
void api_batch_params(ApiBatch *batch, PgParam *params);
void api_batch_add(ApiBatch *batch, const ApiMessage *message);
void api_batch_free(ApiBatch *batch);

/* Where the partitions of a topic begin that the database does not know. */
void api_call_begin_topic(PgConnection *conn, const char *topic,
						  const int64_t *partitions, const int64_t *offsets,
						  uint32_t count);
/* last_missing: -1 for not known */
void api_call_move_offset(PgConnection *conn, const char *topic,
						  int32_t partition, int64_t was, int64_t next,
						  int64_t last_missing, const char *reason);
void api_call_fingerprint(PgConnection *conn, const char *topic,
						  int32_t partition, int64_t next,
						  const char *fingerprint);
/*
 * Records of the level stream's topic, with their ce_incarnation in place of
 * headers.  behind: more of them are left.
 */
void api_call_levels_read(PgConnection *conn, const char *topic,
						  ApiBatch *records, bool behind);
void api_call_apply(PgConnection *conn, ApiBatch *batch, const char *options);
void api_call_apply_failed(PgConnection *conn, ApiBatch *batch,
						   const char *options, const char *sqlstate,
						   const char *message);

/* ---- answers ---- */

/* NULL if the call went well; "" where the server gave no code */
const char *api_sqlstate(const PGresult *result);

/* Whether the error ended the session. */
bool api_ends_session(const PGresult *result);

/* message, detail and hint of an error in one line, freed by the caller */
char *api_error_text(const PGresult *result);

/*
 * The same if the call failed, whose result is then cleared to NULL; else NULL.
 * For free().
 */
char *api_failure(PGresult **result) MUST_CHECK;

typedef struct ApiHello
{
	int	 relay_api; /* what the database speaks */
	char extension_version[32];
	char database[128];
	char inbox_group[256];
	bool in_recovery;
	bool preloaded;
	int	 max_event_bytes;
	char incarnation[64];
	int	 backend_pid; /* as the server counts */
} ApiHello;

/* What any role can see of any server.  "" where there is none. */
typedef struct ApiServer
{
	bool	superuser;
	bool	may_use; /* the functions for us, as far as they exist */
	bool	fsync;
	bool	full_page_writes;
	int64_t clock_us; /* since 1970 */
	char	encoding[32];
	char	available[32]; /* the version that CREATE EXTENSION installs */
	char	installed[32];
	char	schema[64];
} ApiServer;

/* False: the answer to API_SERVER has not that shape. */
bool api_read_server(const PGresult *result, ApiServer *server) MUST_CHECK;

/* Columns: name, value; a value of a row that is not there is NULL. */
PGresult   *api_exec_check(PGconn *pg, char *const *topics);
const char *api_find_value(const PGresult *result, const char *name);

#define API_POOLER                                                   \
	"a connection pooler stands between the relay and PostgreSQL, "  \
	"which keeps the relay's lock on the lead in a session that is " \
	"another's a moment later"
#define API_POOLER_HINT "Let [postgres] conninfo lead to PostgreSQL itself."

/*
 * Whether a session that is not PostgreSQL's own has these ends: it gives
 * another number than the server, or refuses what only the server may judge.
 */
bool api_is_behind_pooler(const ApiHello *hello, int backend_pid);
bool api_pooler_refused(const char *error);

/* Logs that there is one; the code to exit with. */
ExitCode api_refuse_pooler(void) MUST_CHECK;

/* Why another relay_api is refused, for free(), and what to do. */
char	   *api_mismatch(const ApiHello *hello);
const char *api_mismatch_hint(const ApiHello *hello);

/* False: the answer has not the shape that was agreed on. */
bool api_read_hello(const PGresult *result, ApiHello *hello) MUST_CHECK;

/*
 * EXIT_CLEAN if the session can be used: the extension has our version of the
 * protocol, and no pooler is in between.  Otherwise logs why it cannot.
 */
ExitCode api_judge_hello(const ApiHello *hello, int backend_pid) MUST_CHECK;

/*
 * A page: an answer to API_PAGE, API_HELD_PAGE or, behind the window that it
 * begins, to API_LOOK.
 */
bool	 api_page_is_sound(const PGresult *result) MUST_CHECK;
uint32_t api_page_rows(const PGresult *result);
size_t	 api_page_bytes(const PGresult *result);
void	 api_page_row(const PGresult *result, uint32_t number, EventRow *event);

/* Borrowed; NULL: no valid result of API_LOOK. */
const char *api_look_window(const PGresult *result);

/* text columns */
const char *api_text(const PGresult *result, int row, int column);
int64_t		api_int(const PGresult *result, int row, int column);
bool		api_bool(const PGresult *result, int row, int column);

/* binary columns */
Slice	api_slice(const PGresult *result, int row, int column);
int64_t api_binary_time(const PGresult *result, int row, int column);

#endif
