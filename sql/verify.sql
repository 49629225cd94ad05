/* ---- Verification and repair --------------------------------------------- */

/*
 * Levels, the ledger and the live reservations represent the same quantities
 * in three ways; each row is a difference between them.
 */
CREATE FUNCTION pgstock_internal.stock_faults(product text)
RETURNS TABLE (product_id text, location text, what text, expected bigint,
	found bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH level AS (
	SELECT product_id, location, sum(on_hand)::bigint AS on_hand,
		   sum(reserved)::bigint AS reserved,
		   sum(backorder_limit)::bigint AS backorder_limit
	  FROM pgstock_internal.level
	 WHERE $1 IS NULL OR product_id = $1
	 GROUP BY 1, 2
), ledger AS (
	SELECT product_id, location, sum(on_hand_delta)::bigint AS on_hand,
		   sum(reserved_delta)::bigint AS reserved
	  FROM pgstock_internal.ledger
	 WHERE $1 IS NULL OR product_id = $1
	 GROUP BY 1, 2
), slot_line AS (
	SELECT product_id, location, slot, sum(quantity)::bigint AS reserved
	  FROM pgstock_internal.reservation
	 WHERE state = 'r' AND ($1 IS NULL OR product_id = $1)
	 GROUP BY 1, 2, 3
), line AS (
	SELECT product_id, location, sum(reserved)::bigint AS reserved
	  FROM slot_line
	 GROUP BY 1, 2
), combined AS (
	SELECT product_id, location,
		   coalesce(v.on_hand, 0) AS on_hand,
		   coalesce(v.reserved, 0) AS reserved,
		   coalesce(v.backorder_limit, 0) AS backorder_limit,
		   coalesce(g.on_hand, 0) AS ledger_on_hand,
		   coalesce(g.reserved, 0) AS ledger_reserved,
		   coalesce(i.reserved, 0) AS lines
	  FROM level v
	  FULL JOIN ledger g USING (product_id, location)
	  FULL JOIN line i USING (product_id, location)
)
SELECT product_id, location, c.what, c.expected, c.found
  FROM combined t, LATERAL (VALUES
	('on_hand: ledger and level', ledger_on_hand, on_hand),
	('reserved: ledger and level', ledger_reserved, reserved),
	('reserved: live reservations and level', lines, reserved),
	('oversold: minimum and actual free stock', greatest(-backorder_limit,
		on_hand - reserved), on_hand - reserved),
	('reserved: not negative', greatest(0, reserved), reserved)
  ) AS c (what, expected, found)
 WHERE c.expected <> c.found
UNION ALL
/* Quotas of sales: their lines, and not oversold. */
SELECT product_id, location, c.what, c.expected, c.found
  FROM (SELECT * FROM pgstock_internal.level
		 WHERE slot < 0 AND ($1 IS NULL OR product_id = $1)) v
  FULL JOIN (SELECT * FROM slot_line WHERE slot < 0) i
	   USING (product_id, location, slot),
	   LATERAL (VALUES
	('reserved: live purchases and quota of a sale',
		coalesce(i.reserved, 0), coalesce(v.reserved, 0)),
	('oversold: minimum and actual rest of a sale',
		greatest(0, v.on_hand - v.reserved), v.on_hand - v.reserved)
  ) AS c (what, expected, found)
 WHERE c.expected <> c.found
UNION ALL
/* Slots: their lines, and not oversold without the other slots. */
SELECT product_id, location, c.what || slot, c.expected, c.found
  FROM (SELECT l.*, on_hand - reserved + backorder_limit
					- CASE WHEN needs_all_slots THEN 0 ELSE safety END AS free
		  FROM pgstock_internal.level l) v
  LEFT JOIN slot_line i USING (product_id, location, slot),
	   LATERAL (VALUES
	('reserved: live reservations and slot ', coalesce(i.reserved, 0),
		v.reserved),
	('oversold: minimum and actual free stock of slot ', greatest(v.free, 0),
		v.free)
  ) AS c (what, expected, found)
 WHERE v.slots_made > 1 AND ($1 IS NULL OR product_id = $1)
   AND c.expected <> c.found
 ORDER BY 1, 2, 3
$$;
COMMENT ON FUNCTION pgstock_internal.stock_faults IS
	'returns the differences for verify_stock; NULL for all products';

/* The metric ledger_differences is about all products. */
CREATE FUNCTION pgstock_internal.verify(product text)
RETURNS TABLE (product_id text, location text, what text, expected bigint,
	found bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	RETURN QUERY SELECT * FROM pgstock_internal.stock_faults(product);
	GET DIAGNOSTICS n = ROW_COUNT;
	IF product IS NULL THEN
		PERFORM pgstock_internal.note_verification(n);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.verify IS
	'returns the differences for verify_stock, and records their number if '
	'they are those of all products';

CREATE FUNCTION @extschema@.verify_stock(product_id text DEFAULT NULL,
	OUT product_id text, OUT location text, OUT what text,
	OUT expected bigint, OUT found bigint)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT * FROM pgstock_internal.verify($1)
$$;
COMMENT ON FUNCTION @extschema@.verify_stock IS
	'compares levels, ledger and live reservations of one product or of all '
	'(NULL) and returns the differences; no row: they agree';

/*
 * The level is locked first, so that it does not change between comparison and
 * repair.  The ledger is authoritative, because it is append-only.
 */
CREATE FUNCTION pgstock_internal.repair_product(product text, reason text)
RETURNS TABLE (product_id text, location text, what text, expected bigint,
	found bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM pgstock_internal.check_id('product_id', product);
	PERFORM pgstock_internal.check_reason($2);
	PERFORM FROM pgstock_internal.level l WHERE l.product_id = product
	  ORDER BY l.product_id, l.location, l.slot FOR NO KEY UPDATE;
	RETURN QUERY SELECT * FROM pgstock_internal.stock_faults(product);
	IF NOT FOUND THEN
		RETURN;
	END IF;
	/* Quotas by their purchases: movements do not contain slots. */
	UPDATE pgstock_internal.level l
	   SET on_hand = greatest(l.on_hand, i.reserved), reserved = i.reserved,
		   version = l.version + 1
	  FROM (SELECT q.location, q.slot,
				   coalesce(sum(r.quantity), 0) AS reserved
			  FROM pgstock_internal.level q
			  LEFT JOIN pgstock_internal.reservation r
				ON (r.product_id, r.location, r.slot)
				 = (q.product_id, q.location, q.slot) AND r.state = 'r'
			 WHERE q.product_id = product AND q.slot < 0
			 GROUP BY q.location, q.slot) i
	 WHERE l.product_id = product
	   AND (l.location, l.slot) = (i.location, i.slot)
	   AND (l.reserved <> i.reserved OR l.on_hand < i.reserved);
	/* With slots, slot 0 gets safety stock and back-order limit. */
	UPDATE pgstock_internal.level l
	   SET safety = s.safety, backorder_limit = s.backorder_limit
	  FROM (SELECT v.location, sum(v.safety) AS safety,
				   sum(v.backorder_limit) AS backorder_limit
			  FROM pgstock_internal.level v
			 WHERE v.product_id = product GROUP BY v.location) s
	 WHERE l.product_id = product AND l.location = s.location AND l.slot = 0
	   AND l.slots_made > 1;
	/* Each other slot keeps the stock of its lines. */
	UPDATE pgstock_internal.level l
	   SET on_hand = r.reserved, reserved = r.reserved, safety = 0,
		   backorder_limit = 0, needs_all_slots = true
	  FROM (SELECT v.location, v.slot, coalesce(sum(i.quantity), 0) AS reserved
			  FROM pgstock_internal.level v
			  LEFT JOIN pgstock_internal.reservation i
				ON i.product_id = v.product_id AND i.location = v.location
			   AND i.slot = v.slot AND i.state = 'r'
			 WHERE v.product_id = product AND v.slot > 0 GROUP BY 1, 2) r
	 WHERE l.product_id = product AND (l.location, l.slot)
		   = (r.location, r.slot);
	/* Slot 0 gets the rest of the ledger's sum. */
	UPDATE pgstock_internal.level l
	   SET on_hand = l.on_hand + m.on_hand - s.on_hand,
		   reserved = l.reserved + m.reserved - s.reserved,
		   needs_all_slots = l.slots_made > 1, version = l.version + 1
	  FROM (SELECT v.location, sum(v.on_hand_delta) AS on_hand,
				   sum(v.reserved_delta) AS reserved
			  FROM pgstock_internal.ledger v
			 WHERE v.product_id = product GROUP BY v.location) m
	  JOIN (SELECT v.location, sum(v.on_hand) AS on_hand,
				   sum(v.reserved) AS reserved
			  FROM pgstock_internal.level v
			 WHERE v.product_id = product GROUP BY v.location) s
	 USING (location)
	 WHERE l.product_id = product AND l.location = m.location AND l.slot = 0
	   AND (l.slots_made > 1 OR (s.on_hand, s.reserved)
			IS DISTINCT FROM (m.on_hand, m.reserved));
	PERFORM pgstock_internal.mark_levels(product),
			pgstock_internal.audit('repair_stock', product, $2);
END
$$;
COMMENT ON FUNCTION pgstock_internal.repair_product IS
	'sets the levels of a product to the sums of the ledger, for repair_stock';

CREATE FUNCTION @extschema@.repair_stock(product_id text, reason text,
	OUT product_id text, OUT location text, OUT what text,
	OUT expected bigint, OUT found bigint)
RETURNS SETOF record
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT * FROM pgstock_internal.repair_product($1, $2)
$$;
COMMENT ON FUNCTION @extschema@.repair_stock IS
	'sets the levels of a product to the sums of the ledger and returns the '
	'differences found before; the reason is required';
