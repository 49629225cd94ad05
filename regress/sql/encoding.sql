--
-- encoding: in a database of another encoding than UTF8 each message ends as in
-- any other, and a character that the encoding lacks is poison with that reason
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set each :abs_srcdir '/sql/encoding_each.psql'
CREATE DATABASE pgstock_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE pgstock_euc_jp ENCODING 'EUC_JP' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE pgstock_sql_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE pgstock_mule ENCODING 'MULE_INTERNAL' LOCALE 'C' TEMPLATE template0;
\set home :DBNAME
\c pgstock_latin1
\i :each
\c pgstock_euc_jp
\i :each
\c pgstock_sql_ascii
\i :each
-- nothing converts UTF-8 into this one: it has ASCII, escaped or not
\c 'dbname=pgstock_mule client_encoding=SQL_ASCII'
SET client_min_messages = warning;
CREATE EXTENSION pgstock;
CREATE FUNCTION taken(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'got %', payload;
END
$$;
SELECT register_handler('enc-mine', 'taken');
SELECT r.result, r.reason
  FROM unnest(ARRAY[convert_to('{"n": "', 'SQL_ASCII') || '\xc3a9' || convert_to('"}', 'SQL_ASCII'),
			  convert_to('{"n": "\u00e9"}', 'SQL_ASCII'), convert_to('{"n": "\ud83d\ude00"}', 'SQL_ASCII'),
			  convert_to('{"n": "\u0022\u005c\\u00e9"}', 'SQL_ASCII')]) WITH ORDINALITY u (value, n),
	   pgstock_internal.relay_apply('{enc-mine}', '{0}', ARRAY[u.n], '{-1}', '{NULL}', ARRAY[value], '{NULL}',
	'{"dlq_topic": "{topic}_dlq", "retry_delays_ms": [10000], "order_wait_ms": 900000, "dedup_retention_ms": 604800000, "group": "g"}') r
 ORDER BY u.n;
SELECT count(payload) FROM stock_outbox;
\c :home
DROP DATABASE pgstock_latin1;
DROP DATABASE pgstock_euc_jp;
DROP DATABASE pgstock_sql_ascii;
DROP DATABASE pgstock_mule;
