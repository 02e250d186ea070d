-- Some traces with a span that meets the condition that leads a search: are there only a few, as of a rare value, they
-- are looked up where they lie.
SELECT DISTINCT lower(hex(trace_id)) AS id
FROM spans
WHERE $REACH AND $LEAD
LIMIT {limit:UInt64}
