-- SPDX-License-Identifier: PostgreSQL
-- The shop of the examples: its own table, its role, some stock.
-- Run it once, as a superuser, in a database that has pgstock.

CREATE TABLE orders (
    id text PRIMARY KEY,
    user_id text NOT NULL,
    state text NOT NULL DEFAULT 'new'
        CHECK (state IN ('new', 'paid', 'refund'))
);

SELECT receive_stock('SKU-1', 10), receive_stock('SKU-2', 5),
    receive_stock('SKU-3', 1);

DO $$ BEGIN CREATE ROLE shop LOGIN; EXCEPTION WHEN duplicate_object THEN NULL;
END $$;
GRANT SELECT, INSERT, UPDATE ON orders TO shop;
SELECT grant_stock_access('shop', 'app');
