--
-- stock: received pieces can be reserved, once; a repeated request is answered
-- and takes nothing; another request under the same name is SK007
--
\set row 'order_id, product_id, location, requested, granted, status, available, version, replayed'
SELECT receive_stock('stock-a', 10);
SELECT receive_stock('stock-a', 5, reference => 'delivery 17');
SELECT receive_stock('stock-a', 3, 'east');
-- NULL for an argument with a default means the default
SELECT receive_stock('stock-a', 1, NULL, NULL);
SELECT * FROM stock_levels WHERE product_id = 'stock-a' ORDER BY location;
-- take
SELECT :row, expires_at > now() + '30 min'
		AND expires_at <= clock_timestamp() + '30 min' AS half_an_hour
  FROM reserve_stock('stock-a', 4, 'stock-1', 'ann');
SELECT :row FROM reserve_stock('stock-a', 2, 'stock-2', NULL, NULL, NULL, NULL, NULL);
SELECT :row FROM reserve_stock('stock-a', 3, 'stock-1', 'ann', 'east');
SELECT * FROM stock_levels WHERE product_id = 'stock-a' ORDER BY location;
-- all the rest, and no more
SELECT outcome_of($$SELECT reserve_stock('stock-a', 11, 'stock-3')$$);
SELECT :row FROM reserve_stock('stock-a', 10, 'stock-3');
SELECT outcome_of($$SELECT reserve_stock('stock-a', 1, 'stock-4')$$);
SELECT level_of('stock-a'), level_of('stock-a', 'east');
-- the same request again: order, product and location are its key
SELECT :row FROM reserve_stock('stock-a', 4, 'stock-1', 'ann');
SELECT :row FROM reserve_stock('stock-a', 4, 'stock-1', 'ann', ttl => '1 day',
							   strategy => 'optimistic');
SELECT r.expires_at = s.expires_at AS the_first_expiry
  FROM reserve_stock('stock-a', 4, 'stock-1', 'ann', ttl => '1 day') r
  JOIN stock_reservations s USING (order_id, product_id, location);
-- another request under the same name
SELECT outcome_of($$SELECT reserve_stock('stock-a', 5, 'stock-1', 'ann')$$);
SELECT outcome_of($$SELECT reserve_stock('stock-a', 4, 'stock-1', 'bob')$$);
SELECT outcome_of($$SELECT reserve_stock('stock-a', 4, 'stock-1')$$);
SELECT level_of('stock-a'), lines_of('stock-1'), events_of('stock-1');
-- confirmed it still lives, and so still answers
SELECT status FROM confirm_stock('stock-2');
SELECT :row FROM reserve_stock('stock-a', 2, 'stock-2');
-- once it has ended it can be reserved again
SELECT status FROM release_stock('stock-3');
SELECT :row FROM reserve_stock('stock-a', 1, 'stock-3', 'carol');
SELECT lines_of('stock-3'), level_of('stock-a');
-- its expiry
SELECT expires_at IS NULL AS never FROM reserve_stock('stock-a', 1, 'stock-5', ttl => '0');
SET pgstock.reservation_ttl = '1h';
SELECT expires_at > now() + '59 min' AS an_hour FROM reserve_stock('stock-a', 1, 'stock-6');
SET pgstock.reservation_ttl = 0;
SELECT expires_at IS NULL AS never FROM reserve_stock('stock-a', 1, 'stock-7');
SELECT expires_at < now() + '1 min' AS seconds
  FROM reserve_stock('stock-a', 1, 'stock-8', ttl => '10 s');
RESET pgstock.reservation_ttl;
-- all strategies give the same answer
SELECT (reserve_stock('stock-a', 1, 'stock-' || s, strategy => s)).status
  FROM unnest('{auto,pessimistic,optimistic,advisory}'::text[]) s;
-- the ledger has every change, with actor and reason
SET pgstock.actor = 'till 3';
SELECT status FROM release_stock('stock-8', 'changed their mind');
RESET pgstock.actor;
SELECT kind, location, on_hand_delta, reserved_delta, order_id, reason, reference,
	   actor = current_user AS me, actor = current_user || '/till 3' AS till,
	   event_id IS NOT NULL AS has_event
  FROM stock_movements WHERE product_id = 'stock-a' ORDER BY id;
SELECT * FROM verify_stock();
