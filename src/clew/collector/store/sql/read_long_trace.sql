-- A page of the spans of one trace in one bucket, in time order: those after (after_us, after_id), or from the first.
-- Spans that agree in both stay on one page. "untimed": those without a time, which lie in bucket 0.
SELECT $SPAN
FROM spans
WHERE $TRACE = [[strict: toFixedString(unhex({trace_id:String}), 16)]][[loose: unhex({trace_id:String})]]
  AND intDiv(timestamp, 600000000) = {bucket:UInt64}
  AND [[timed: timestamp > 0]][[untimed: timestamp = 0]]
  [[after_id: AND (timestamp, span_id) > ({after_us:UInt64}, toFixedString(unhex({after_id:String}), 8))]]
ORDER BY timestamp, span_id
LIMIT {limit:UInt64} WITH TIES
