-- Some of the traces that have a span of an operation in the window, spread over it.
SELECT lower(hex(trace_id)) AS id
FROM spans
WHERE $IN_TIME AND local_service = {service:String} AND name = {name:String}
  [[root: AND parent_id IN (toFixedString('', 8), span_id)]]
GROUP BY trace_id
ORDER BY cityHash64(trace_id)
LIMIT {limit:UInt64}
