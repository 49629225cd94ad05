--
-- sale_end: a flash sale ends by itself at ends_at
--
SELECT receive_stock('end-a', 20), receive_stock('end-b', 5), expire_reservations(100000) >= 0 AS expired;
-- Makes a sale's end due.
CREATE FUNCTION end_now(activity_id text) RETURNS void LANGUAGE sql AS $$
UPDATE pgstock_internal.sale s SET starts_at = now() - interval '1 h', ends_at = now() - interval '1 ms' WHERE s.activity_id = $1
$$;
SELECT open_flash_sale('e', 'end-a', 8, 9, ends_at => now() + interval '1 h'), open_flash_sale('e2', 'end-b', 2, ends_at => now() + interval '2 h'),
	   open_flash_sale('e3', 'end-b', 1);
SELECT status FROM purchase_flash_sale('e', 'ann', 'end-1', 3) UNION ALL SELECT status FROM purchase_flash_sale('e', 'bob', 'end-2')
 UNION ALL SELECT status FROM purchase_flash_sale('e', 'cat', 'end-3');
SELECT status FROM confirm_stock('end-2');
-- before its end nothing happens, and the upkeep knows when it comes
SELECT pgstock_internal.end_sale('e'), pgstock_internal.end_sales() BETWEEN 59000000 AND 60000000 AS later;
UPDATE pgstock_internal.sale SET ends_at = now() + interval '30 s' WHERE activity_id = 'e';
SELECT pgstock_internal.end_sales() BETWEEN 20000000 AND 30000000 AS later, pgstock_internal.keeper_expire(10) <= 30000000 AS by_then;
-- a purchase past the end is refused before the quota has gone back
SELECT end_now('e');
SELECT status, available FROM purchase_flash_sale('e', 'ann', 'end-4');
SELECT make_due('end-3');
SELECT pgstock_internal.keeper_expire(10);
SELECT slot, on_hand, reserved FROM pgstock_internal.level WHERE product_id = 'end-a';
SELECT on_hand, reserved, available FROM stock_levels WHERE product_id = 'end-a';
SELECT activity_id, closed_at IS NOT NULL AS closed, left_at_end FROM pgstock_internal.sale WHERE activity_id ~ '^e' ORDER BY 1;
SELECT pgstock_internal.end_sale('e'), pgstock_internal.keeper_expire(10) > 0 AS later;
SELECT lines_of('end-1'), lines_of('end-2'), lines_of('end-3');
SELECT kind, on_hand_delta, reserved_delta, reference, event_id IS NOT NULL AS has_event FROM stock_movements WHERE product_id = 'end-a' AND kind ~ '^sale' ORDER BY id;
SELECT event_type, payload->'kind' AS kind, payload->'on_hand' AS on_hand, payload->'available' AS available, payload->'reference' AS reference FROM stock_outbox WHERE key = 'end-a' ORDER BY seq;
-- closing it afterwards answers what was left;
-- that of another sale is still an error
SELECT close_flash_sale('e'), close_flash_sale('e'), close_flash_sale('e3');
SELECT outcome_of($$SELECT close_flash_sale('e3')$$), outcome_of($$SELECT open_flash_sale('e', 'end-a', 1)$$);
-- purchases that were made are settled as those of a closed sale
SELECT status, available FROM purchase_flash_sale('e', 'ann', 'end-1', 3);
SELECT status FROM confirm_stock('end-1') UNION ALL SELECT status FROM return_stock('end-2') UNION ALL SELECT status FROM confirm_stock('end-3');
SELECT status FROM purchase_flash_sale('e', 'ann', 'end-5');
-- several that are due end in turn, the first one first; one at a time
SELECT open_flash_sale('e' || i, 'end-a', 1, 1, '-infinity', now() - i * interval '1 s') FROM generate_series(4, 6) i;
SELECT pgstock_internal.keeper_expire(10);
SELECT array_agg(activity_id ORDER BY 1) AS open FROM pgstock_internal.sale WHERE closed_at IS NULL AND activity_id ~ '^e[4-6]';
SELECT pgstock_internal.keeper_expire(10);
SELECT array_agg(activity_id ORDER BY 1) AS open FROM pgstock_internal.sale WHERE closed_at IS NULL AND activity_id ~ '^e[4-6]';
SELECT pgstock_internal.relay_expire(10);
SELECT pgstock_internal.keeper_expire(10) > 0 AS later;
SELECT count(*) AS open FROM pgstock_internal.sale WHERE closed_at IS NULL AND activity_id ~ '^e[4-6]';
-- a failure is on record until the step works again
SELECT open_flash_sale('e7', 'end-a', 1, 1, '-infinity', now() - interval '2 s');
ALTER TABLE pgstock_internal.sale ADD extra int;
SELECT pgstock_internal.end_sales();
SELECT step, sqlstate FROM pgstock_internal.upkeep_failure;
ALTER TABLE pgstock_internal.sale DROP extra;
SELECT pgstock_internal.end_sales();
SELECT count(*) FROM pgstock_internal.upkeep_failure;
SELECT count(*) FROM pgstock_internal.level WHERE slot < 0 AND product_id = 'end-a';
-- five that fail do not keep open the sixth, which ends later;
-- and they are one warning
SELECT count(open_flash_sale('e1' || i, 'end-a', 1, 1, '-infinity', now() - interval '1 h' + i * interval '1 s')) FROM generate_series(0, 5) i;
ALTER FUNCTION pgstock_internal.end_sale RENAME TO end_sale_away;
CREATE FUNCTION pgstock_internal.end_sale(activity_id text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF activity_id ~ '^e1[0-4]$' THEN
		RAISE EXCEPTION 'stuck';
	END IF;
	RETURN pgstock_internal.end_sale_away(activity_id);
END
$$;
DO $$
BEGIN
	FOR i IN 1..500 LOOP
		EXIT WHEN pgstock_internal.end_sales() = 0;
	END LOOP;
END
$$;
SELECT pgstock_internal.end_sales();
SELECT step, error FROM pgstock_internal.upkeep_failure;
SELECT array_agg(activity_id ORDER BY 1) AS open FROM pgstock_internal.sale WHERE closed_at IS NULL AND activity_id ~ '^e1[0-5]$';
-- again after a minute
UPDATE pgstock_internal.upkeep_failure SET warned_at = warned_at - interval '1 min';
SELECT pgstock_internal.end_sales();
DROP FUNCTION pgstock_internal.end_sale;
ALTER FUNCTION pgstock_internal.end_sale_away RENAME TO end_sale;
SELECT pgstock_internal.end_sales() FROM generate_series(1, 5);
SELECT count(*) FROM pgstock_internal.upkeep_failure;
SELECT close_flash_sale('e2');
SELECT * FROM verify_stock();
DROP FUNCTION end_now;
