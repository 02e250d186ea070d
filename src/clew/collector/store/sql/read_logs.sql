-- Log records of one trace, in time order; buckets are those of trace_buckets.sql.
SELECT $LOG
FROM logs
WHERE trace_id = toFixedString(unhex({trace_id:String}), 16)
  AND intDiv(timestamp, 600000000) IN {buckets:Array(UInt64)}
  [[service: AND service = {service:String}]]
  [[levels: AND level IN {levels:Array(String)}]]
  [[text: AND (positionCaseInsensitiveUTF8(message, {text:String}) > 0
    OR positionCaseInsensitiveUTF8(exception, {text:String}) > 0)]]
ORDER BY timestamp
LIMIT {limit:UInt64}
