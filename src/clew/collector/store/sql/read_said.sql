-- What was logged in spans of these traces: for searches that are judged with the trace at hand.
SELECT lower(hex(trace_id)) AS id, lower(hex(span_id)) AS span_id, message, exception
FROM logs
WHERE trace_id IN (SELECT toFixedString(unhex(arrayJoin({trace_ids:Array(String)})), 16))
  AND intDiv(timestamp, 600000000) IN {buckets:Array(UInt64)}
  AND span_id != toFixedString('', 8)
LIMIT {limit:UInt64}
