/* ---- Orders over shards: a step, and what the shards answer -------------- */

/*
 * Sends a step to its shards at the same time.  If one does not answer,
 * PL/Proxy does not return the other answers either: then each shard is called
 * by itself, and the failure is the answer of the shard that failed.
 */
CREATE FUNCTION pgstock_front.saga_push(t pgstock_front.turn, verb text,
	step int)
RETURNS pgstock_front.answer[]
LANGUAGE plpgsql
AS $$
DECLARE
	answers	pgstock_front.answer[];
	calls	text[];
	f		pgstock_front.failure;
	patience text := current_setting('pgstock_front.shard_lock_timeout', true);
BEGIN
	/* the sweeper does not wait long for a row that is locked */
	IF patience <> '' THEN
		t.args := t.args || jsonb_build_object('lock_timeout', patience);
	END IF;
	/* as the type pgstock_shard.part_step_call */
	FOR n IN 1 .. cardinality(t.step_shards) LOOP
		calls[n] := ROW(t.step_shards[n:n], t.step_parts[n:n],
						t.args ->> 'role', t.args ->> 'trace',
						t.args ->> 'actor', t.order_id, t.saga, step, t.shards,
						verb, t.args)::text;
	END LOOP;
	BEGIN
		answers := ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.part_step(t.step_shards, calls) a);
		ASSERT cardinality(answers) = cardinality(t.step_shards);
		RETURN answers;
	EXCEPTION WHEN OTHERS THEN
		NULL;
	END;
	answers := '{}';
	FOR n IN 1 .. cardinality(t.step_shards) LOOP
		BEGIN
			answers := answers || ARRAY(
				SELECT a::pgstock_front.answer FROM pgstock_front.part_step(
					t.step_shards[n:n], calls[n:n]) a);
		EXCEPTION WHEN OTHERS THEN
			f := ('08006', format('could not reach shard %s',
								  t.step_shards[n]), SQLERRM,
				  'Repeat the call with the same order id.');
			answers := answers
				|| (t.step_shards[n], f::text, NULL)::pgstock_front.answer;
		END;
	END LOOP;
	ASSERT cardinality(answers) = cardinality(t.step_shards);
	RETURN answers;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_push IS
	'sends a step of a saga to its shards; a shard that does not answer is an '
	'error 08006 among the answers';

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

CREATE FUNCTION pgstock_front.saga_failed(answers pgstock_front.answer[])
RETURNS boolean
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
	a	pgstock_front.answer;
BEGIN
	FOREACH a IN ARRAY answers LOOP
		IF a.error IS NOT NULL THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_failed IS
	'returns whether a shard has returned an error';

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
