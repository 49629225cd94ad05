/* ---- The shard of a key, for front and shard ---------------------------- */

CREATE FUNCTION @own@.shard_of(key text, shards int)
RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || pg_catalog.left(pg_catalog.md5(key), 8))::bit(32)::int
	   & (shards - 1);
COMMENT ON FUNCTION @own@.shard_of IS
	'returns the shard of a key, from 0, by the first 32 bits of its md5; '
	'shards is a power of two';
