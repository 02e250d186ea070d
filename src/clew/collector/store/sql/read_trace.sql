-- The spans of one trace, as reported. trace_index names the ten minutes to look into, so no hint of the time is needed.
SELECT $SPAN
FROM spans
WHERE trace_id = toFixedString(unhex({trace_id:String}), 16)
  AND intDiv(timestamp, 600000000) IN (
    SELECT bucket FROM trace_index WHERE key = toUInt32(cityHash64(toFixedString(unhex({trace_id:String}), 16)))
  )
ORDER BY timestamp = 0, timestamp, span_id
LIMIT {limit:UInt64}
