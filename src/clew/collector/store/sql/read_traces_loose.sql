-- The spans of traces by the lower 64 bits of their ids, whatever stands before them. No index has these bits alone, so
-- this looks through the column of ids: only for collectors told not to be strict about ids.
SELECT $SPAN
FROM spans
WHERE substring(trace_id, 9) IN (SELECT unhex(arrayJoin({trace_ids:Array(String)})))
ORDER BY timestamp = 0, timestamp, span_id
LIMIT {limit:UInt64}
