--
-- partial: release and roll back of some of an order's pieces; the rest stays
--
\set row 'product_id, location, requested, granted, status, available, version, replayed'
SELECT receive_stock('partial-a', 10), receive_stock('partial-b', 10), receive_stock('partial-b', 10, 'east');
SELECT count(*) FROM reserve_order('partial-1', '[
	{"product_id": "partial-a", "quantity": 5}, {"product_id": "partial-b", "quantity": 4},
	{"product_id": "partial-b", "quantity": 3, "location": "east"}]', 'ann');
-- some pieces of a line, merged, sorted
SELECT :row FROM release_stock('partial-1', 'too many', '[
	{"product_id": "partial-b", "quantity": 1}, {"product_id": "partial-a", "quantity": 1},
	{"product_id": "partial-a", "quantity": 1}]');
SELECT lines_of('partial-1'), level_of('partial-a'), level_of('partial-b'), level_of('partial-b', 'east');
-- a whole line
SELECT :row FROM release_stock('partial-1', NULL, '[
	{"product_id": "partial-b", "quantity": 3, "location": "east"}]');
SELECT lines_of('partial-1'), level_of('partial-b', 'east');
-- more than there is, lines that the order does not have, no items,
-- invalid items
SELECT outcome_of($$SELECT release_stock('partial-1', NULL, '[{"product_id": "partial-a", "quantity": 4}]')$$);
SELECT outcome_of($$SELECT release_stock('partial-1', NULL, '[
	{"product_id": "partial-a", "quantity": 1}, {"product_id": "partial-c", "quantity": 1}]')$$);
SELECT outcome_of($$SELECT release_stock('partial-1', NULL, '[{"product_id": "partial-a", "quantity": 1, "location": "west"}]')$$);
SELECT outcome_of($$SELECT release_stock('partial-1', NULL, '[]')$$);
SELECT outcome_of($$SELECT rollback_stock('partial-1', NULL, '{"product_id": "partial-a"}')$$);
SELECT lines_of('partial-1'), level_of('partial-a');
-- an ended line answers "already"
SELECT :row FROM release_stock('partial-1', NULL, '[
	{"product_id": "partial-b", "quantity": 3, "location": "east"}]');
-- the payment confirms the rest and nothing else
SELECT :row FROM confirm_stock('partial-1', 'pay');
SELECT lines_of('partial-1'), level_of('partial-a'), level_of('partial-b'), level_of('partial-b', 'east');
-- confirmed pieces are not released, but can be rolled back in part
SELECT outcome_of($$SELECT release_stock('partial-1', NULL, '[{"product_id": "partial-a", "quantity": 1}]')$$);
SELECT :row FROM rollback_stock('partial-1', 'broken', '[{"product_id": "partial-a", "quantity": 1}]');
SELECT lines_of('partial-1'), level_of('partial-a');
-- the rest of the order as a whole
SELECT :row FROM rollback_stock('partial-1', 'failed');
SELECT :row FROM rollback_stock('partial-1', 'failed');
SELECT lines_of('partial-1'), level_of('partial-a'), level_of('partial-b'), level_of('partial-b', 'east');
-- the stream
SELECT event_type, payload->>'reason' AS reason,
	   (SELECT string_agg(format('%s@%s %s', i->>'product_id', i->>'location', i->>'quantity'), ', ')
		  FROM jsonb_array_elements(payload->'items') i) AS items
  FROM stock_outbox WHERE key = 'partial-1' ORDER BY seq;
-- and the ledger
SELECT kind, product_id, location, on_hand_delta, reserved_delta, reason
  FROM stock_movements WHERE order_id = 'partial-1' ORDER BY id;
-- a line added to a confirmed order: each verb acts on the lines that it can
SELECT status FROM reserve_stock('partial-a', 1, 'partial-2');
SELECT status FROM confirm_stock('partial-2');
SELECT status FROM reserve_stock('partial-b', 1, 'partial-2');
SELECT lines_of('partial-2');
SELECT product_id, status FROM confirm_stock('partial-2');
SELECT status FROM reserve_stock('partial-b', 1, 'partial-2', location => 'east');
SELECT product_id, location, status FROM release_stock('partial-2');
SELECT product_id, location, status FROM rollback_stock('partial-2');
SELECT lines_of('partial-2'), level_of('partial-a'), level_of('partial-b'), level_of('partial-b', 'east');
SELECT * FROM verify_stock();
