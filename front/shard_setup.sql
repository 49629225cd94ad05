/* ---- Which shard this database is ---------------------------------------- */

/* The number of the shard is a setting of the database: cheap to read. */
CREATE FUNCTION pgstock_shard.save_setting(name text, value text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('ALTER DATABASE %I SET pgstock_shard.%I = %L',
				   current_database(), name, value);
	PERFORM set_config('pgstock_shard.' || name, value, false);
END
$$;
COMMENT ON FUNCTION pgstock_shard.save_setting IS
	'sets a setting of this database, for this session and later ones';

/*
 * A shard that has a number keeps it: with the shards in another order, a front
 * would find other stock in each.  The key is stored here, too: a new front
 * takes it over, and pgstock_front.shard_status() compares it.
 *
 * The settings of the role are those with which a front connects: a pooler does
 * not pass them on (see pgstock_front.proxy_connection).
 */
CREATE FUNCTION pgstock_shard.set_shard(shard int, shards int,
	line_key text DEFAULT NULL, order_key text DEFAULT NULL,
	replace boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	known	int := pgstock_shard.own_number();
	known_of int := pgstock_shard.shard_count();
	key		text[] := pgstock_shard.choose_key(pgstock_shard.own_key(),
											   ARRAY[$3, $4], $5);
BEGIN
	IF shard IS NULL OR shards IS NULL OR shards < 1 OR shard < 0
		OR shard >= shards THEN
		RAISE EXCEPTION 'shard % of % does not exist', shard, shards
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Shards are numbered from 0.';
	END IF;
	IF (known, known_of) <> (shard, shards) AND NOT replace THEN
		RAISE EXCEPTION 'database "%" is shard % of %, not shard % of %',
				current_database(), known, known_of, shard, shards
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Give the shards in the order of their numbers, which '
						 'pgstock_front.shard_status() shows.';
	END IF;
	PERFORM pgstock_shard.save_setting('shard', shard::text),
			pgstock_shard.save_setting('shards', shards::text);
	IF key[1] IS NOT NULL THEN
		PERFORM pgstock_shard.save_key(key);
	END IF;
	EXECUTE format($f$
ALTER ROLE pgstock_front IN DATABASE %1$I SET search_path = pg_catalog, pg_temp;
ALTER ROLE pgstock_front IN DATABASE %1$I SET datestyle = 'ISO';
ALTER ROLE pgstock_front IN DATABASE %1$I SET intervalstyle = 'postgres'
$f$, current_database());
END
$$;
COMMENT ON FUNCTION pgstock_shard.set_shard IS
	'sets which shard (from 0) of how many this database is, the key, and what '
	'sessions of the role pgstock_front need, for sessions that begin after '
	'this call; NULL keeps the key; another number or key is set only if '
	'replace is true';

CREATE FUNCTION pgstock_shard.about()
RETURNS TABLE (shard int, shards int, database text, pgstock text,
	pgstock_shard text, standby boolean, key text[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_shard.own_number(),
	   pgstock_shard.shard_count(),
	   current_database()::text,
	   (SELECT extversion FROM pg_extension WHERE extname = 'pgstock'),
	   (SELECT extversion FROM pg_extension WHERE extname = 'pgstock_shard'),
	   pg_is_in_recovery(), pgstock_shard.own_key()
$$;
COMMENT ON FUNCTION pgstock_shard.about IS
	'returns which shard this database is, the versions of its extensions, and '
	'the key';

SELECT pgstock_shard.wrap('pgstock_shard.about()'::regprocedure);

GRANT SELECT ON pgstock_shard.key TO PUBLIC;
REVOKE ALL ON FUNCTION pgstock_shard.set_shard, pgstock_shard.save_setting
  FROM PUBLIC;
