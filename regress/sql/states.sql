--
-- states: the effect of each verb in each state of a line, cell by cell
--
-- "want" is the table of states in the manual.  Each cell has an order of its
-- own, which is brought into its state before the verb is called; beside the
-- answer it shows the changes of the level, the line,
-- the ledger and the stream.
--
CREATE TABLE cell (verb text, state text, want text);
INSERT INTO cell (state, verb, want)
SELECT state, verb, want
  FROM (VALUES
	('reserved',    'confirmed', 'released', 'rolled_back', 'SK005',    'granted'),
	('due',         'confirmed', 'already',  'already',     'SK005',    'SK006'),
	('expired',     'confirmed', 'already',  'already',     'SK005',    'SK006'),
	('sold out',    'shortfall', 'already',  'already',     'SK005',    'SK006'),
	('confirmed',   'already',   'SK005',    'rolled_back', 'returned', 'SK005'),
	('released',    'SK005',     'already',  'already',     'SK005',    'SK005'),
	('rolled_back', 'SK005',     'already',  'already',     'SK005',    'SK005'),
	('returned',    'SK005',     'already',  'already',     'SK005',    'SK005'),
	('shortfall',   'shortfall', 'already',  'already',     'SK005',    'SK005'),
	('unknown',     'SK004',     'unknown_order', 'unknown_order', 'SK004', 'SK004')
  ) AS t (state, confirm, release, rollback, return, extend),
	LATERAL (VALUES ('confirm', confirm), ('release', release), ('rollback', rollback),
					('return', return), ('extend', extend)) AS v (verb, want);
CREATE TABLE verb (verb text, call text);
INSERT INTO verb VALUES
	('confirm', 'confirm_stock(%L, ''now'')'), ('release', 'release_stock(%L, ''now'')'),
	('rollback', 'rollback_stock(%L, ''now'')'), ('return', 'return_stock(%L)'),
	('extend', 'extend_reservation(%L, ''1 day'')');
-- Brings an order for 2 of 5 into a state; "sold out": expired,
-- and its stock gone.
CREATE PROCEDURE reach(order_id text, product_id text, state text)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM receive_stock(product_id, 5);
	IF state = 'unknown' THEN
		RETURN;
	END IF;
	PERFORM reserve_stock(product_id, 2, order_id, 'ann');
	IF state IN ('due', 'expired', 'sold out', 'shortfall') THEN
		PERFORM make_due(order_id);
	END IF;
	IF state IN ('expired', 'sold out', 'shortfall') THEN
		PERFORM reserve_stock(product_id, 5, 'taker of ' || order_id);
	END IF;
	IF state = 'expired' THEN
		PERFORM release_stock('taker of ' || order_id);
	END IF;
	IF state IN ('confirmed', 'returned', 'shortfall') THEN
		PERFORM confirm_stock(order_id, 'first payment');
	END IF;
	IF state = 'returned' THEN
		PERFORM return_stock(order_id);
	ELSIF state = 'released' THEN
		PERFORM release_stock(order_id, 'first reason');
	ELSIF state = 'rolled_back' THEN
		PERFORM rollback_stock(order_id, 'first reason');
	END IF;
END
$$;
-- One cell: the answer, then the changes.
CREATE FUNCTION walk(verb text, state text, OUT answer text, OUT replayed boolean,
	OUT granted bigint, OUT on_hand bigint, OUT reserved bigint, OUT was_state text,
	OUT is_state text, OUT line text, OUT event text, OUT movement text)
LANGUAGE plpgsql AS $$
DECLARE
	o		text := 'states-' || verb || ' ' || state;
	p		text := o;
	was		stock_levels;
	now_is	stock_levels;
	seqs	bigint;
	ids		bigint;
BEGIN
	CALL reach(o, p, state);
	SELECT * INTO was FROM stock_levels l WHERE l.product_id = p;
	seqs := (SELECT max(seq) FROM stock_outbox);
	ids := (SELECT max(id) FROM stock_movements);
	was_state := (SELECT s.state FROM stock_reservations s WHERE s.order_id = o);
	BEGIN
		EXECUTE format('SELECT status, replayed, granted FROM '
					   || (SELECT v.call FROM verb v WHERE v.verb = walk.verb), o) INTO STRICT answer, replayed, granted;
	EXCEPTION WHEN OTHERS THEN
		answer := SQLSTATE;
	END;
	SELECT * INTO now_is FROM stock_levels l WHERE l.product_id = p;
	on_hand := now_is.on_hand - was.on_hand;
	reserved := now_is.reserved - was.reserved;
	SELECT s.state, format('%s%s %s', s.state, ' for ' || s.reason, s.payment_id) INTO is_state, line
	  FROM stock_reservations s WHERE s.order_id = o;
	SELECT string_agg(x.event_type || coalesce(' for ' || (x.payload->>'reason'), '')
					  || coalesce(' by ' || (x.payload->>'payment_id'), ''), ', '
					  ORDER BY x.seq) INTO event
	  FROM stock_outbox x WHERE x.seq > seqs AND x.key = o;
	SELECT string_agg(m.kind || coalesce(' for ' || m.reason, ''), ', ' ORDER BY m.id)
	  INTO movement FROM stock_movements m WHERE m.id > ids;
END
$$;
CREATE TABLE walked AS
SELECT c.*, w.* FROM cell c, LATERAL walk(c.verb, c.state) w;
-- deviations from the table: none
SELECT verb, state, want, answer FROM walked WHERE want IS DISTINCT FROM answer;
-- "already" and a repeated shortfall change nothing and are marked as replayed
SELECT verb, state FROM walked
 WHERE (answer IN ('already', 'unknown_order') OR answer ~ '^SK' OR state = 'shortfall')
   AND (event IS NOT NULL OR movement IS NOT NULL OR on_hand <> 0 OR reserved <> 0
		OR replayed IS DISTINCT FROM (CASE WHEN answer = 'unknown_order' THEN false
									  WHEN answer !~ '^SK' THEN true END));
-- the edges
SELECT DISTINCT was_state, verb, is_state FROM walked WHERE was_state <> is_state ORDER BY 1, 2, 3;
-- and the whole table
SELECT verb, state, answer, granted, on_hand, reserved, line, event, movement
  FROM walked ORDER BY verb, state COLLATE "C";
-- an order of which one line has expired and is sold: shortfall for all, and
-- the other lines are released
SELECT receive_stock('states-m', 2), receive_stock('states-n', 2);
SELECT status FROM reserve_order('states-mn', '[{"product_id": "states-m", "quantity": 2},
	{"product_id": "states-n", "quantity": 2}]');
SELECT make_due('states-mn');
SELECT status FROM reserve_stock('states-n', 1, 'states-other');
SELECT lines_of('states-mn'), level_of('states-m'), level_of('states-n');
SELECT product_id, requested, granted, status, available, replayed FROM confirm_stock('states-mn', 'pay');
SELECT lines_of('states-mn'), level_of('states-m'), level_of('states-n');
SELECT product_id, requested, granted, status, available, replayed FROM confirm_stock('states-mn', 'pay');
-- with stock for both again it is confirmed, whether expired or only due
SELECT status FROM reserve_order('states-mn2', '[{"product_id": "states-m", "quantity": 2},
	{"product_id": "states-n", "quantity": 1}]');
SELECT make_due('states-mn2');
SELECT status FROM reserve_stock('states-m', 1, 'states-other2');
SELECT status FROM release_stock('states-other2');
SELECT lines_of('states-mn2');
SELECT product_id, requested, granted, status, available, replayed FROM confirm_stock('states-mn2', 'pay');
SELECT lines_of('states-mn2'), level_of('states-m'), level_of('states-n'), events_of('states-mn2');
-- a due line of another order is no reason for a shortfall
SELECT receive_stock('states-d', 1);
SELECT status FROM reserve_stock('states-d', 1, 'states-d1');
SELECT make_due('states-d1');
SELECT status FROM reserve_stock('states-d', 1, 'states-d2');
SELECT make_due('states-d2');
SELECT status FROM confirm_stock('states-d1', 'pay');
SELECT lines_of('states-d1'), lines_of('states-d2'), events_of('states-d2'), level_of('states-d');
SELECT * FROM verify_stock();
