SELECT count() > 0 AS found
FROM spans
WHERE intDiv(timestamp, 600000000) = intDiv({timestamp:UInt64}, 600000000)
  AND trace_id = toFixedString(unhex(leftPad({trace_id:String}, 32, '0')), 16)
  AND timestamp = {timestamp:UInt64}
  AND span_id = toFixedString(unhex(leftPad({span_id:String}, 16, '0')), 8)
