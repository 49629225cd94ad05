--
-- transactions: the calls live in the caller's own transaction: savepoints,
-- caught errors, prepared transactions, procedures that commit, isolation
-- levels; a transaction's settings for its commit do not reach the next
--
SELECT receive_stock('tx-a', 20), receive_stock('tx-b', 5);
CREATE TABLE app_order (id text PRIMARY KEY);
-- both or neither
BEGIN;
INSERT INTO app_order VALUES ('tx-1');
SELECT status FROM reserve_stock('tx-a', 1, 'tx-1');
ROLLBACK;
SELECT (SELECT count(*) FROM app_order) AS orders, level_of('tx-a'), lines_of('tx-1'), events_of('tx-1');
BEGIN;
INSERT INTO app_order VALUES ('tx-1');
SELECT status FROM reserve_stock('tx-a', 1, 'tx-1');
COMMIT;
SELECT (SELECT count(*) FROM app_order) AS orders, level_of('tx-a'), lines_of('tx-1'), events_of('tx-1');
-- savepoints: a rolled-back part leaves nothing
BEGIN;
SELECT status FROM reserve_stock('tx-a', 2, 'tx-2');
SAVEPOINT one;
SELECT available FROM reserve_stock('tx-a', 3, 'tx-3');
SAVEPOINT two;
SELECT status FROM confirm_stock('tx-2');
ROLLBACK TO one;
SELECT available FROM reserve_stock('tx-a', 1, 'tx-3');
RELEASE one;
SELECT available, version FROM stock_levels WHERE product_id = 'tx-a';
COMMIT;
SELECT level_of('tx-a'), lines_of('tx-2'), lines_of('tx-3'), events_of('tx-2'), events_of('tx-3');
-- a refusal that is caught leaves the transaction usable
DO $$
BEGIN
	PERFORM reserve_stock('tx-a', 1, 'tx-4');
	BEGIN
		PERFORM reserve_stock('tx-b', 1, 'tx-4'), reserve_stock('tx-b', 99, 'tx-5');
	EXCEPTION WHEN SQLSTATE 'SK001' THEN
		PERFORM reserve_stock('tx-b', 2, 'tx-5');
	END;
	FOR i IN 1..3 LOOP
		BEGIN
			PERFORM reserve_stock('tx-a', 1, 'tx-loop-' || i);
			IF i = 2 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT lines_of('tx-4'), lines_of('tx-5'), lines_of('tx-loop-1'), lines_of('tx-loop-2'), lines_of('tx-loop-3'), level_of('tx-a'), level_of('tx-b');
-- many calls in one statement see each other
SELECT string_agg((reserve_stock('tx-a', 1, 'tx-many-' || i)).available::text, ' ' ORDER BY i) FROM generate_series(1, 3) i;
WITH r AS (SELECT * FROM reserve_stock('tx-a', 1, 'tx-6')), c AS (SELECT c.* FROM r, confirm_stock(r.order_id) c) SELECT status, available FROM c;
SELECT outcome_of($$SELECT reserve_stock('tx-a', 1, 'tx-7'), reserve_stock('tx-a', 2, 'tx-7')$$);
SELECT lines_of('tx-7');
-- procedures that commit, and chains
CREATE PROCEDURE sell() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM reserve_stock('tx-a', 1, 'tx-8');
	COMMIT;
	PERFORM confirm_stock('tx-8');
	ROLLBACK;
	PERFORM reserve_stock('tx-b', 1, 'tx-9');
	COMMIT AND CHAIN;
	PERFORM release_stock('tx-9');
END
$$;
CALL sell();
SELECT lines_of('tx-8'), lines_of('tx-9');
BEGIN;
SELECT status FROM confirm_stock('tx-8');
COMMIT AND CHAIN;
SELECT status FROM reserve_stock('tx-b', 1, 'tx-10');
ROLLBACK AND CHAIN;
COMMIT;
SELECT lines_of('tx-8'), lines_of('tx-10');
-- through a cursor and a trigger
CREATE FUNCTION take_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM reserve_stock('tx-b', 1, NEW.id); RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER take AFTER INSERT ON app_order DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION take_one();
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT product_id, status FROM reserve_order('tx-11', '[{"product_id": "tx-a", "quantity": 1}, {"product_id": "tx-b", "quantity": 1}]');
FETCH 1 FROM c;
INSERT INTO app_order VALUES ('tx-12');
COMMIT;
FETCH 2 FROM c;
CLOSE c;
SELECT lines_of('tx-11'), lines_of('tx-12');
INSERT INTO app_order VALUES ('tx-13'), ('tx-14'), ('tx-15');
SELECT string_agg(id, ' ' ORDER BY id) FROM app_order;
-- one snapshot for a whole transaction: its own changes are visible
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT available FROM reserve_stock('tx-a', 1, 'tx-16');
SELECT available FROM reserve_stock('tx-a', 1, 'tx-17');
SELECT replayed FROM reserve_stock('tx-a', 1, 'tx-16');
SELECT status FROM confirm_stock('tx-16');
SELECT status FROM rollback_stock('tx-16');
SELECT receive_stock('tx-new', 1), receive_stock('tx-new', 1);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT status FROM reserve_stock('tx-new', 2, 'tx-18', idempotency_key => 'tx-k');
SELECT replayed FROM reserve_stock('tx-new', 2, 'tx-18', idempotency_key => 'tx-k');
SELECT status FROM release_stock('tx-18');
COMMIT;
SELECT lines_of('tx-16'), lines_of('tx-17'), lines_of('tx-18'), level_of('tx-new');
-- prepared: its locks and its event wait for COMMIT PREPARED
BEGIN;
SELECT status FROM reserve_stock('tx-b', 1, 'tx-19');
PREPARE TRANSACTION 'regress_tx_19';
SHOW synchronous_commit;
SELECT events_of('tx-19') AS not_yet;
SET lock_timeout = '10ms';
SELECT outcome_of($$SELECT reserve_stock('tx-b', 1, 'tx-20')$$);
RESET lock_timeout;
COMMIT PREPARED 'regress_tx_19';
SELECT lines_of('tx-19'), events_of('tx-19');
BEGIN;
SELECT status FROM confirm_stock('tx-19');
PREPARE TRANSACTION 'regress_tx_20';
ROLLBACK PREPARED 'regress_tx_20';
SELECT lines_of('tx-19'), level_of('tx-b');
-- settings for a commit are reset when the transaction ends, however it ends
CREATE FUNCTION no_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE CONSTRAINT TRIGGER no AFTER DELETE ON app_order DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no_commit();
CREATE VIEW setting AS SELECT current_setting('synchronous_commit') AS synchronous_commit;
SET synchronous_commit = local;
SELECT status, synchronous_commit FROM reserve_stock('tx-a', 1, 'tx-21'), setting;
BEGIN;
SELECT status FROM release_stock('tx-21');
DELETE FROM app_order;
COMMIT;
SELECT synchronous_commit, lines_of('tx-21') FROM setting;
BEGIN;
SET LOCAL synchronous_commit = remote_write;
SELECT status FROM release_stock('tx-21');
COMMIT;
SELECT synchronous_commit, lines_of('tx-21') FROM setting;
SET synchronous_commit = off;
SELECT status, synchronous_commit FROM reserve_stock('tx-a', 1, 'tx-22'), setting;
SELECT synchronous_commit FROM setting;
RESET synchronous_commit;
DROP VIEW setting;
DROP TABLE app_order;
DROP FUNCTION take_one, no_commit;
DROP PROCEDURE sell;
SELECT * FROM verify_stock();
