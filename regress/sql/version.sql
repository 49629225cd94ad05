--
-- version: a library whose script has another version is refused by name, at
-- the first call of a session and after each change; nothing is written
--
SELECT default_version AS ours FROM pg_available_extensions WHERE name = 'pgstock' \gset
CREATE FUNCTION refusal_of(command text) RETURNS text LANGUAGE sql AS $$
SELECT replace(outcome_of(command), (SELECT default_version FROM pg_available_extensions WHERE name = 'pgstock'), 'OURS')
$$;
SELECT receive_stock('ver-a', 10);
-- the package is newer than the script: the first call of a session
\c
BEGIN;
UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'pgstock';
SELECT refusal_of($$SELECT receive_stock('ver-a', 1)$$);
-- and every one after it
SELECT refusal_of($$SELECT reserve_stock('ver-a', 1, 'ver-1')$$);
SELECT refusal_of($$SELECT confirm_stock('ver-1')$$);
SELECT refusal_of($$SELECT publish_event('ver', 'k', '{}')$$);
SELECT refusal_of($$SELECT * FROM pgstock_internal.relay_hello()$$);
SELECT refusal_of($$SELECT * FROM pgstock_internal.outbox_fence('auto')$$);
-- ALTER EXTENSION UPDATE in the same session is enough
UPDATE pg_extension SET extversion = :'ours' WHERE extname = 'pgstock';
SELECT status FROM reserve_stock('ver-a', 1, 'ver-1');
ROLLBACK;
-- the script is newer than the package; versions are compared as numbers
\c
BEGIN;
UPDATE pg_extension SET extversion = '1.10' WHERE extname = 'pgstock';
SELECT refusal_of($$SELECT receive_stock('ver-a', 1)$$);
UPDATE pg_extension SET extversion = '99' WHERE extname = 'pgstock';
SELECT refusal_of($$SELECT receive_stock('ver-a', 1)$$);
ROLLBACK;
-- what does not write goes on
\c
BEGIN;
UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'pgstock';
SELECT on_hand, reserved FROM stock_levels WHERE product_id = 'ver-a';
SELECT * FROM verify_stock() WHERE product_id = 'ver-a';
ROLLBACK;
SELECT on_hand, reserved FROM stock_levels WHERE product_id = 'ver-a';
DROP FUNCTION refusal_of(text);
