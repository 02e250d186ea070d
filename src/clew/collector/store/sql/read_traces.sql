-- The spans of traces, as reported; buckets are those of trace_buckets.sql.
SELECT $SPAN
FROM spans
WHERE $TRACE IN (
    SELECT [[strict: toFixedString(unhex(id), 16)]][[loose: unhex(id)]]
    FROM (SELECT arrayJoin({trace_ids:Array(String)}) AS id))
  AND intDiv(timestamp, 600000000) IN {buckets:Array(UInt64)}
LIMIT {limit:UInt64}
