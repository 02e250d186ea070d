SELECT count() > 0 AS found
FROM logs
WHERE intDiv(timestamp, 600000000) = intDiv({timestamp:UInt64}, 600000000)
  AND trace_id = toFixedString(unhex(leftPad({trace_id:String}, 32, '0')), 16)
  AND timestamp = {timestamp:UInt64}
  AND message = {message:String}
