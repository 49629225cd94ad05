/* ---- Orders over shards: a step, and what the shards answer -------------- */

CREATE FUNCTION pgstock_front.saga_push(t pgstock_front.turn, verb text,
	step int)
RETURNS pgstock_front.answer[]
AS 'MODULE_PATHNAME', 'pgstock_front_push' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_front.saga_push IS
	'sends a step of a saga to its shards at the same time; a shard that does '
	'not answer is an error 08006 among the answers';

CREATE FUNCTION pgstock_front.saga_outcome(answers pgstock_front.answer[])
RETURNS text
AS 'MODULE_PATHNAME', 'pgstock_front_outcome' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION pgstock_front.saga_outcome IS
	'returns how the shards have answered a hold or a keep: failed, refused, '
	'backordered or granted';

CREATE FUNCTION pgstock_front.saga_sorted(answers pgstock_front.answer[])
RETURNS text[]
AS 'MODULE_PATHNAME', 'pgstock_front_sorted' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION pgstock_front.saga_sorted IS
	'returns the rows of all answers, sorted by product and location';

/* Errors of class SK and 22 are answers: a repetition returns them again. */
CREATE FUNCTION pgstock_front.saga_failure(answers pgstock_front.answer[],
	answered boolean)
RETURNS pgstock_front.failure
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
	RETURN (
		SELECT f.failure
		  FROM unnest(answers) WITH ORDINALITY a (shard, error, rows, n),
			   LATERAL (SELECT a.error::pgstock_front.failure AS failure) f
		 WHERE a.error IS NOT NULL
		   AND ((f.failure).sqlstate ~ '^(SK|22)') = answered
		 ORDER BY a.n LIMIT 1);
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_failure IS
	'returns the first error of a step; answered: only errors that are '
	'answers, or only others';

CREATE FUNCTION pgstock_front.saga_raise(f pgstock_front.failure)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM pgstock_front.raise(f.sqlstate, f.message, f.detail, f.hint);
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_raise IS 'raises the error of a step';

CREATE FUNCTION pgstock_front.saga_rows(answers pgstock_front.answer[])
RETURNS SETOF pgstock_front.stock_result
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
	RETURN QUERY
	SELECT r.*
	  FROM unnest(answers) a, unnest(a.rows::pgstock_front.stock_result[]) r;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_rows IS 'returns the rows of a step';
