/* ---- The front of several shards ----------------------------------------- */

\echo Use "CREATE EXTENSION pgstock_front" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

CREATE SCHEMA pgstock_front;
COMMENT ON SCHEMA pgstock_front IS
	'the internals of pgstock_front, which its public functions use';

/* What a shard returns: see front/shard.sql. */
CREATE TYPE pgstock_front.failure AS
(
	sqlstate	text,
	message		text,
	detail		text,
	hint		text
);
COMMENT ON TYPE pgstock_front.failure IS 'an error that a shard returned';

CREATE TYPE pgstock_front.answer AS
(
	shard		int,
	error		text,
	rows		text[]
);
COMMENT ON TYPE pgstock_front.answer IS
	'what a shard returned: rows, or an error (pgstock_front.failure), as text';

CREATE FUNCTION pgstock_front.begin_call(function text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_front_begin_call' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_front.begin_call IS
	'returns true; raises 25001 inside a transaction block, unless '
	'pgstock.front_autonomous is on';

CREATE FUNCTION pgstock_front.caller()
RETURNS text
AS 'MODULE_PATHNAME', 'pgstock_front_caller' LANGUAGE C STABLE;
COMMENT ON FUNCTION pgstock_front.caller IS
	'returns the role of the session, or of its SET ROLE; NULL for a superuser';

/* A superuser acts as pgstock_front in the shards, so its name is passed on. */
CREATE FUNCTION pgstock_front.actor()
RETURNS text
AS 'MODULE_PATHNAME', 'pgstock_front_actor' LANGUAGE C STABLE;
COMMENT ON FUNCTION pgstock_front.actor IS
	'returns pgstock.actor for a shard; for a superuser, its name before it';

CREATE FUNCTION pgstock_front.raise(sqlstate text, message text, detail text,
	hint text)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_front_raise' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_front.raise IS 'raises the error of a shard';

CREATE FUNCTION pgstock_front.call_failed(function text, state text,
	message text)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_front_call_failed' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_front.call_failed IS
	'raises an error that PL/Proxy has reported, with a hint what to do';

CREATE FUNCTION pgstock_front.call_shard(proxy regproc, function text,
	shard int, call text)
RETURNS text[]
AS 'MODULE_PATHNAME', 'pgstock_front_call_shard' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_front.call_shard IS
	'calls one shard by a function of PL/Proxy; returns the rows of the '
	'answer, or raises its error';

/*
 * If several shards were called, "unknown" from one of them is not an error if
 * another one knows it.
 */
CREATE FUNCTION pgstock_front.check_answers(answers pgstock_front.answer[])
RETURNS pgstock_front.answer[]
LANGUAGE plpgsql
AS $$
DECLARE
	a		pgstock_front.answer;
	f		pgstock_front.failure;
	known	pgstock_front.answer[] := '{}';
BEGIN
	FOREACH a IN ARRAY answers LOOP
		IF a.error IS NULL THEN
			known := known || a;
		END IF;
	END LOOP;
	FOREACH a IN ARRAY answers LOOP
		f := a.error::pgstock_front.failure;
		IF a.error IS NOT NULL AND (f.sqlstate NOT IN ('SK002', 'SK004',
															   'P0002')
									OR known = '{}') THEN
			PERFORM pgstock_front.raise(f.sqlstate, f.message, f.detail,
										f.hint);
		END IF;
	END LOOP;
	RETURN known;
END
$$;
COMMENT ON FUNCTION pgstock_front.check_answers IS
	'raises the first error of several answers; returns the others';

/* As a function, so that a test can replace it. */
CREATE FUNCTION pgstock_front.longest_wait()
RETURNS interval
LANGUAGE sql IMMUTABLE
RETURN '1 minute'::interval;
COMMENT ON FUNCTION pgstock_front.longest_wait IS
	'returns how long a call repeats its attempts while other sessions change '
	'the same order or flash sale';

/* ---- Types of results: those of pgstock ---------------------------------- */

CREATE TYPE pgstock_front.stock_result AS
(
	order_id	text,
	product_id	text,
	location	text,
	requested	bigint,
	granted		bigint,
	status		text,
	available	bigint,
	expires_at	timestamptz,
	version		bigint,
	replayed	boolean
);
COMMENT ON TYPE pgstock_front.stock_result IS
	'result of one line of an order, as in a shard';

CREATE TYPE pgstock_front.availability AS
(
	product_id	text,
	location	text,
	requested	bigint,
	available	bigint,
	fits		boolean
);
COMMENT ON TYPE pgstock_front.availability IS
	'whether a line could be reserved: result of check_availability';

CREATE TYPE pgstock_front.event_receipt AS
(
	event_id	uuid,
	topic		text,
	state		text,
	seq			bigint,
	created_at	timestamptz,
	published_at timestamptz
);
COMMENT ON TYPE pgstock_front.event_receipt IS
	'the state of an event: result of event_status';

CREATE TYPE pgstock_front.stock_difference AS
(
	product_id	text,
	location	text,
	what		text,
	expected	bigint,
	found		bigint
);
COMMENT ON TYPE pgstock_front.stock_difference IS
	'a difference that verify_stock has found';

CREATE TYPE pgstock_front.history_row AS
(
	at			timestamptz,
	kind		text,
	what		text,
	product_id	text,
	location	text,
	quantity	bigint,
	event_id	text,
	trace_id	text,
	detail		jsonb
);
COMMENT ON TYPE pgstock_front.history_row IS
	'one row of the history of an order: result of order_history';
