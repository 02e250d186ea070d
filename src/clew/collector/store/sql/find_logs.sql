-- The newest log records of a stretch of time (microseconds, both ends included), whatever trace they belong to.
SELECT $LOG
FROM logs
WHERE intDiv(timestamp, 600000000) BETWEEN intDiv({since:UInt64}, 600000000) AND intDiv({until:UInt64}, 600000000)
  AND timestamp BETWEEN {since:UInt64} AND {until:UInt64}
  [[service: AND service = {service:String}]]
  [[levels: AND level IN {levels:Array(String)}]]
  [[text: AND (positionCaseInsensitiveUTF8(message, {text:String}) > 0
    OR positionCaseInsensitiveUTF8(exception, {text:String}) > 0)]]
ORDER BY timestamp DESC
LIMIT {limit:UInt64}
