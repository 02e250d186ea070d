-- The spans of several traces; see read_trace.sql.
WITH (SELECT groupArray(toFixedString(unhex(hex), 16)) FROM (SELECT arrayJoin({trace_ids:Array(String)}) AS hex)) AS ids
SELECT $SPAN
FROM spans
WHERE trace_id IN (SELECT arrayJoin(ids))
  AND intDiv(timestamp, 600000000) IN (
    SELECT bucket FROM trace_index WHERE key IN (SELECT toUInt32(cityHash64(arrayJoin(ids))))
  )
ORDER BY timestamp = 0, timestamp, span_id
LIMIT {limit:UInt64}
