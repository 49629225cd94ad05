/* ---- The shards of a front ----------------------------------------------- */

CREATE FUNCTION pgstock_front.connection_text(options jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT string_agg(format('%s=''%s''', o.key,
						 replace(replace(o.value, '\', '\\'), '''', '\''')),
				  ' ' ORDER BY o.key)
  FROM jsonb_each_text(options) o
$$;
COMMENT ON FUNCTION pgstock_front.connection_text IS
	'returns connection parameters as a connection string of libpq';

/*
 * A machine that no longer responds is noticed only by these: PL/Proxy waits
 * for an answer as long as the connection lasts, also for the answer to a
 * statement that statement_timeout has canceled.  One is for a request that the
 * machine has not acknowledged, the keepalives are for an answer that does not
 * arrive.  PL/Proxy does not use connect_timeout; postgres_fdw and psql do.
 */
CREATE FUNCTION pgstock_front.timeouts()
RETURNS jsonb
LANGUAGE sql IMMUTABLE
AS $$
SELECT '{"connect_timeout": "5", "tcp_user_timeout": "8000",
		 "keepalives_idle": "3", "keepalives_interval": "2",
		 "keepalives_count": "3"}'::jsonb
$$;
COMMENT ON FUNCTION pgstock_front.timeouts IS
	'returns connection parameters for the parameters that are not given';

/*
 * The statements that PL/Proxy sends name types without their schema, and
 * answers have times as text: the connection sets how both are read, whatever
 * the database or role of the shard has set.
 *
 * Calls go through the shard's pooler, if it has one.  Views do not: a
 * transaction that has read them keeps a session in each shard, and a call that
 * waited for one of the pooler's sessions could wait for itself.
 */
CREATE FUNCTION pgstock_front.proxy_connection(shard jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_front.connection_text(pgstock_front.timeouts()
	|| c.options || jsonb_build_object('options',
	concat_ws(' ', c.options ->> 'options',
			  '-c search_path=pg_catalog,pg_temp -c datestyle=ISO'
			  ' -c intervalstyle=postgres')))
  FROM (SELECT CASE WHEN NOT shard ? 'pooler' THEN shard
					ELSE jsonb_strip_nulls(jsonb_build_object(
						'dbname', shard -> 'dbname',
						'passfile', shard -> 'passfile'))
						|| (shard -> 'pooler') END) c (options)
$$;
COMMENT ON FUNCTION pgstock_front.proxy_connection IS
	'returns the connection parameters of a database for PL/Proxy';

/* For an administrator, who connects with a password of its own. */
CREATE FUNCTION pgstock_front.connections()
RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_front.connection_text(
		jsonb_object_agg(o.option_name, o.option_value)
		- '{async_capable,passfile}'::text[])
  FROM pg_foreign_server s, pg_options_to_table(s.srvoptions) o
 WHERE s.srvname ~ '^pgstock_shard_[0-9]+$'
 GROUP BY s.srvname
 ORDER BY substring(s.srvname, '[0-9]+$')::int
$$;
COMMENT ON FUNCTION pgstock_front.connections IS
	'returns the connection parameters of all shards, without "passfile"';

/* Server options can be read by every role, so they hold no secret. */
CREATE FUNCTION pgstock_front.check_shards(shards jsonb)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	int;
BEGIN
	IF jsonb_typeof(shards) IS DISTINCT FROM 'array'
		OR EXISTS (SELECT FROM jsonb_array_elements(shards) s
					WHERE jsonb_typeof(s) <> 'object') THEN
		RAISE EXCEPTION 'the shards must be a JSON array of objects'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Give the connection parameters of each shard, as in '
						 '[{"host": "shop0", "dbname": "shop"}, ...].';
	END IF;
	n := jsonb_array_length(shards);
	IF n = 0 OR n & (n - 1) <> 0 THEN
		RAISE EXCEPTION 'the number of shards must be a power of two, not %', n
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'It cannot change later: choose more shards than '
						 'machines, several of them on one machine.';
	END IF;
	IF EXISTS (SELECT FROM jsonb_array_elements(shards) s
				WHERE jsonb_typeof(s -> 'pooler') <> 'object') THEN
		RAISE EXCEPTION 'the pooler of a shard must be a JSON object'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Give its connection parameters, as in {"host": '
						 '"127.0.0.1", "port": "6432"}.';
	END IF;
	IF EXISTS (SELECT FROM jsonb_array_elements(shards) s
				WHERE s ?| '{user,password,sslpassword}'
				   OR s -> 'pooler' ?| '{user,password,sslpassword}') THEN
		RAISE EXCEPTION 'the connection parameters of a shard must not name a '
						'user or a password'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'The user is pgstock_front; store its password in '
						 'the file that "passfile" names.';
	END IF;
	IF (SELECT count(DISTINCT s) FROM jsonb_array_elements(shards) s) < n THEN
		RAISE EXCEPTION 'two shards have the same connection parameters'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Each shard is a database of its own.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.check_shards IS
	'raises 22023 for connection parameters that set_shards does not accept';

CREATE FUNCTION pgstock_front.set_key(line_key text, order_key text, n int)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format($f$
CREATE OR REPLACE FUNCTION pgstock_front.line_shard(product_id text,
	location text)
RETURNS int LANGUAGE sql IMMUTABLE
RETURN pgstock_front.shard_of((%1$s)::text, %2$s);
CREATE OR REPLACE FUNCTION pgstock_front.order_shard(order_id text)
RETURNS int LANGUAGE sql IMMUTABLE
RETURN pgstock_front.shard_of((%3$s)::text, %2$s)
$f$, line_key, n, coalesce(nullif(order_key, ''), 'NULL'));
	/* NULL if the key depends on the location */
	EXECUTE $f$
CREATE OR REPLACE FUNCTION pgstock_front.product_shard(product_id text)
RETURNS int LANGUAGE sql IMMUTABLE
RETURN pgstock_front.line_shard(product_id, NULL)
$f$;
	PERFORM pgstock_front.save_key(ARRAY[line_key, order_key]);
	COMMENT ON FUNCTION pgstock_front.line_shard IS
		'returns the shard of a line; created by set_shards';
	COMMENT ON FUNCTION pgstock_front.order_shard IS
		'returns the shard of an order id, if the id contains the key; '
		'created by set_shards';
	COMMENT ON FUNCTION pgstock_front.product_shard IS
		'returns the shard of a product, if it is the same at all locations; '
		'created by set_shards';
END
$$;
COMMENT ON FUNCTION pgstock_front.set_key IS
	'stores the key, and creates the functions that compute a shard by it';

/*
 * Only the extension's owner uses the servers, as the role pgstock_front of
 * each shard.  No password is stored here: it is in the file that "passfile"
 * names, so the mapping need not have one (password_required).
 */
CREATE FUNCTION pgstock_front.map_owner()
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s	record;
BEGIN
	FOR s IN SELECT f.srvname, w.fdwname = 'postgres_fdw' AS is_view
			   FROM pg_foreign_server f
			   JOIN pg_foreign_data_wrapper w ON w.oid = f.srvfdw
			  WHERE f.srvname ~ '^pgstock_(coordinator|shard(s|_[0-9]+))$'
				AND NOT EXISTS (SELECT FROM pg_user_mappings m
								 WHERE m.srvname = f.srvname
								   AND m.usename = current_user)
	LOOP
		EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER %I '
					   'OPTIONS (user ''pgstock_front''%s)',
					   s.srvname, CASE WHEN s.is_view
					   THEN ', password_required ''false''' END);
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_front.map_owner IS
	'creates the user mappings of the caller to the role pgstock_front';

/*
 * line_key: an expression over product_id and location; order_key: one over
 * order_id that computes the same key, '' if the id does not contain it.  NULL
 * keeps what is set; at first, that is product_id, and '' for orders.
 */
CREATE FUNCTION pgstock_front.set_shards(shards jsonb,
	line_key text DEFAULT NULL, order_key text DEFAULT NULL,
	replace boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	options	text;
	known	int;
	key		text[] := pgstock_front.choose_key(pgstock_front.own_key(),
											   ARRAY[$2, $3], $4);
BEGIN
	PERFORM pgstock_front.check_shards(shards);
	known := pgstock_front.shard_count();
	IF known NOT IN (0, jsonb_array_length(shards)) THEN
		RAISE EXCEPTION 'the number of shards cannot change from % to %', known,
				jsonb_array_length(shards)
			USING ERRCODE = 'feature_not_supported',
				  HINT = 'Move shards to further machines instead.';
	END IF;
	SELECT string_agg(format('%s p%s %L', CASE WHEN known > 0 THEN 'SET' END,
							 s.n - 1, pgstock_front.proxy_connection(s.value)),
					  ', ' ORDER BY s.n)
	  INTO options
	  FROM jsonb_array_elements(shards) WITH ORDINALITY s (value, n);
	EXECUTE format(CASE WHEN known = 0
		THEN 'CREATE SERVER pgstock_shards FOREIGN DATA WRAPPER plproxy '
			 'OPTIONS (%s)'
		ELSE 'ALTER SERVER pgstock_shards OPTIONS (%s)' END, options);
	PERFORM pgstock_front.set_servers(shards);
	PERFORM pgstock_front.set_key(coalesce(key[1], 'product_id'), key[2],
								  jsonb_array_length(shards));
	PERFORM pgstock_front.map_owner();
END
$$;
COMMENT ON FUNCTION pgstock_front.set_shards IS
	'sets the connection parameters of all shards, in their order, and the key '
	'by which lines and orders are distributed; another key than the known one '
	'is set only if replace is true';
