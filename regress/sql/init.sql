--
-- init: the extension, and functions that the other tests share
--
-- Every test works on products and orders of its own, so that after this one
-- each can run alone: make installcheck REGRESS="init order".
--
-- what an earlier run has left of the file that the test "payloads" adds to
COPY (SELECT WHERE false) TO PROGRAM 'cat >../../payloads.tsv';
CREATE EXTENSION pgstock;
-- The result of a command: "ok", or the error as an application sees it.
CREATE FUNCTION outcome_of(command text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	code	text;
	message	text;
	detail	text;
	hint	text;
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE,
		message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
		hint = PG_EXCEPTION_HINT;
	RETURN code || ': ' || message
		|| CASE WHEN detail <> '' THEN E'\n  detail: ' || detail ELSE '' END
		|| CASE WHEN hint <> '' THEN E'\n  hint: ' || hint ELSE '' END;
END
$$;
-- Waits for a session that has just ended: it may hold its locks for a moment.
CREATE PROCEDURE wait_alone() LANGUAGE plpgsql AS $$ BEGIN
	WHILE (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend') > 1 LOOP
		PERFORM pg_sleep(0.01);
		COMMIT;
	END LOOP;
END $$;
-- Makes an order's reserved lines due.
CREATE FUNCTION make_due(order_id text) RETURNS void
LANGUAGE sql AS $$
UPDATE pgstock_internal.reservation r
   SET expires_at = '2020-01-01', due_at = '2020-01-01'
 WHERE r.order_id = $1 AND r.state = 'r'
$$;
-- The events with a key, the earliest first.
CREATE FUNCTION events_of(key text) RETURNS text
LANGUAGE sql AS $$
SELECT string_agg(o.event_type, ' ' ORDER BY o.seq)
  FROM stock_outbox o WHERE o.key = $1
$$;
-- A product's level, as "on_hand - reserved, version".
CREATE FUNCTION level_of(product_id text, location text DEFAULT 'main')
RETURNS text
LANGUAGE sql AS $$
SELECT format('%s - %s, v%s', l.on_hand, l.reserved, l.version)
  FROM stock_levels l WHERE l.product_id = $1 AND l.location = $2
$$;
-- A level's rows: on hand - reserved, safety stock, back-orders.
CREATE FUNCTION slots_of(product_id text, location text DEFAULT 'main')
RETURNS text
LANGUAGE sql AS $$
SELECT string_agg(format('%s-%s,%s,%s%s', l.on_hand, l.reserved, l.safety,
						 l.backorder_limit, CASE WHEN needs_all_slots THEN '!' END),
				  ' ' ORDER BY l.slot)
  FROM pgstock_internal.level l
 WHERE l.product_id = $1 AND l.location = $2
$$;
-- An order's lines, every attempt.
CREATE FUNCTION lines_of(order_id text) RETURNS text
LANGUAGE sql AS $$
SELECT string_agg(format('%s %s %s', r.product_id, r.quantity, s.state), ', '
				  ORDER BY r.attempt, r.product_id, r.location)
  FROM pgstock_internal.reservation r
  JOIN stock_reservations s USING (order_id, product_id, location, created_at)
 WHERE r.order_id = $1
$$;
-- The options as the relay passes them.
CREATE FUNCTION relay_options() RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
SELECT '{"dlq_topic": "{topic}_dlq", "retry_delays_ms": [1000000, 3000000, 6000000],
		 "order_wait_ms": 900000, "dedup_retention_ms": 604800000,
		 "group": "regress"}'::jsonb
$$;
-- Headers, packed as docs/relay-protocol.md says.
CREATE FUNCTION pack_headers(headers jsonb) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
SELECT string_agg(int2send(length(name)::int2) || convert_to(name, 'UTF8')
				  || CASE WHEN value IS NULL THEN int4send(-1)
					 ELSE int4send(octet_length(value))
						  || convert_to(value, 'UTF8') END, '')
  FROM jsonb_each_text(headers) AS h (name, value)
$$;
-- Applies a batch, one object a message: topic, and as wanted partition,
-- offset, time, key, headers, and the value as json, text or hex.
CREATE SEQUENCE next_offset MINVALUE 0;
CREATE FUNCTION apply(batch jsonb, options jsonb DEFAULT relay_options())
RETURNS TABLE (topic text, result text, reason text, n bigint)
LANGUAGE sql AS $$
WITH message AS (
	SELECT m, i FROM jsonb_array_elements(batch) WITH ORDINALITY AS b (m, i)
)
SELECT r.topic, r.result, r.reason, r.n FROM pgstock_internal.relay_apply(
	ARRAY(SELECT m->>'topic' FROM message ORDER BY i),
	ARRAY(SELECT coalesce((m->>'partition')::int, 0) FROM message ORDER BY i),
	ARRAY(SELECT coalesce((m->>'offset')::bigint, nextval('next_offset'))
			FROM message ORDER BY i),
	ARRAY(SELECT coalesce((m->>'time')::bigint, -1) FROM message ORDER BY i),
	ARRAY(SELECT convert_to(m->>'key', 'UTF8') FROM message ORDER BY i),
	ARRAY(SELECT coalesce(convert_to(coalesce(m->>'json', m->>'text'), 'UTF8'),
						  decode(m->>'hex', 'hex')) FROM message ORDER BY i),
	ARRAY(SELECT pack_headers(m->'headers') FROM message ORDER BY i),
	options) r
$$;
-- The same for one message.
CREATE FUNCTION apply_one(topic text, value jsonb, key text DEFAULT NULL)
RETURNS text
LANGUAGE sql AS $$
SELECT concat_ws(' ', a.result, a.reason)
  FROM apply(jsonb_build_array(jsonb_build_object('topic', topic,
	'json', value) || CASE WHEN key IS NULL THEN '{}'
					  ELSE jsonb_build_object('key', key) END)) a
$$;
