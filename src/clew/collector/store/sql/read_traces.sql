-- The spans of traces, as reported; buckets are those of trace_buckets.sql.
SELECT $SPAN
FROM spans
WHERE trace_id IN arrayMap(id -> toFixedString(unhex(id), 16), {trace_ids:Array(String)})
  AND intDiv(timestamp, 600000000) IN {buckets:Array(UInt64)}
LIMIT {limit:UInt64}
