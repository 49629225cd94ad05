-- SPDX-License-Identifier: PostgreSQL
-- What the consumers of the examples keep: run it once, in their database.

-- events that have taken effect; keep them as long as Kafka keeps its records
CREATE TABLE seen (
    event_id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now()
);

-- a copy of each level
CREATE TABLE shelf (
    product_id text,
    location text,
    available bigint NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (product_id, location)
);

-- all pieces that were ever reserved: a sum, which would count an event twice
CREATE TABLE demand (
    product_id text PRIMARY KEY,
    pieces bigint NOT NULL
);

-- Applies an event of stock-events; false if it was applied before.  The id and
-- the effect are one transaction, so an event that arrives again, after a crash
-- or a replay, changes nothing.
CREATE FUNCTION apply_event(event jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen (event_id) VALUES ((event->>'event_id')::uuid)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    -- Events of different orders may arrive in any order: the highest version
    -- wins.  An item with activity_id is of a flash sale's quota.
    INSERT INTO shelf AS known (product_id, location, available, version)
    SELECT product_id, location, coalesce(remaining_stock, available), version
      FROM jsonb_to_recordset(
               coalesce(event->'items', jsonb_build_array(event)))
           AS item (product_id text, location text, remaining_stock bigint,
                    available bigint, version bigint, activity_id text)
     WHERE activity_id IS NULL AND version IS NOT NULL
     ORDER BY product_id, location      -- rows are locked in this order
    ON CONFLICT (product_id, location) DO UPDATE
       SET available = excluded.available, version = excluded.version
     WHERE known.version < excluded.version;

    IF event->>'event_type' = 'StockReserved' THEN
        INSERT INTO demand AS known (product_id, pieces)
        SELECT product_id, sum(quantity)
          FROM jsonb_to_recordset(event->'items')
               AS item (product_id text, quantity bigint)
         GROUP BY product_id
         ORDER BY product_id
        ON CONFLICT (product_id) DO UPDATE
           SET pieces = known.pieces + excluded.pieces;
    END IF;
    RETURN true;
END
$$;
