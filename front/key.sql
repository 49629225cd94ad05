/* ---- The key, for front and shard ---------------------------------------- */

CREATE FUNCTION @own@.shard_of(key text, shards int)
RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || pg_catalog.left(pg_catalog.md5(key), 8))::bit(32)::int
	   & (shards - 1);
COMMENT ON FUNCTION @own@.shard_of IS
	'returns the shard of a key, from 0, by the first 32 bits of its md5; '
	'shards is a power of two';

/*
 * Front and shard store the key in a table, not in a setting of the database:
 * its owner could change that, and the expressions run with the rights of the
 * extension's owner.
 */
CREATE TABLE @own@.key
(
	line_key	text NOT NULL,
	order_key	text NOT NULL
);
COMMENT ON TABLE @own@.key IS
	'one row: the expressions of the key; order_key is empty if order ids do '
	'not contain the key';
SELECT pg_extension_config_dump('@own@.key', '');

CREATE FUNCTION @own@.own_key()
RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT ARRAY[line_key, order_key] FROM @own@.key
$$;
COMMENT ON FUNCTION @own@.own_key IS
	'returns the key, {line_key, order_key}; NULL before it is set';

CREATE FUNCTION @own@.save_key(key text[])
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
DELETE FROM @own@.key;
INSERT INTO @own@.key VALUES (key[1], coalesce(key[2], ''));
$$;
COMMENT ON FUNCTION @own@.save_key IS 'stores the key';

CREATE FUNCTION @own@.key_text(key text[])
RETURNS text
LANGUAGE sql IMMUTABLE STRICT
RETURN pg_catalog.format('"%s"', key[1])
	   || CASE WHEN key[2] <> '' THEN pg_catalog.format(' (of orders "%s")',
														key[2]) ELSE '' END;
COMMENT ON FUNCTION @own@.key_text IS
	'returns the expressions of a key, {line_key, order_key}, for a message';

/*
 * With another key, calls would go to shards that do not have the stock, and
 * verify_stock() would find no difference in any of them.
 */
CREATE FUNCTION @own@.choose_key(known text[], given text[], replace boolean)
RETURNS text[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	chosen	text[] := ARRAY[coalesce(given[1], known[1]),
							coalesce(given[2], known[2], '')];
BEGIN
	IF known[1] IS NOT NULL AND chosen <> known AND NOT replace THEN
		RAISE EXCEPTION 'the key cannot change from % to %',
				@own@.key_text(known), @own@.key_text(chosen)
			USING ERRCODE = 'feature_not_supported',
				  DETAIL = 'Stock is in the shards that the key selects.',
				  HINT = 'Leave out the key to keep it. If the shards have no '
						 'stock, or have not been split, set another one with '
						 'pgstock-shards create --replace.';
	END IF;
	RETURN chosen;
END
$$;
COMMENT ON FUNCTION @own@.choose_key IS
	'returns the given key, {line_key, order_key}, or the known one for what '
	'is NULL; raises 0A000 if they differ, unless replace is true';
