-- The spans of traces, as reported; buckets are those of trace_buckets.sql.
SELECT $SPAN
FROM spans
WHERE $TRACE IN arrayMap(id -> [[strict: toFixedString(unhex(id), 16)]][[loose: unhex(id)]], {trace_ids:Array(String)})
  AND intDiv(timestamp, 600000000) IN {buckets:Array(UInt64)}
LIMIT {limit:UInt64}
