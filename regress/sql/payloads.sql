--
-- payloads: what the tests before have written to the outbox, added to a file:
-- before a test that truncates parts, and at the end.  dev/check-payloads holds
-- it against docs/schemas.  The events of oh-20 have another type's name
--
COPY (SELECT o.format, o.type, translate(encode(o.payload, 'base64'), E'\n', ''), translate(encode(convert_to(coalesce(v.headers, '{}')::text, 'UTF8'), 'base64'), E'\n', '') FROM pgstock_internal.outbox o JOIN stock_outbox v USING (seq) WHERE o.payload IS NOT NULL AND v.key IS DISTINCT FROM 'oh-20' ORDER BY o.seq) TO PROGRAM 'cat >>../../payloads.tsv';
