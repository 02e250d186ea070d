-- The first log lines from a moment on, of a service or of all.
SELECT $LOG
FROM logs
WHERE $IN_TIME [[service: AND service = {service:String}]]
ORDER BY timestamp, cityHash64(trace_id, span_id, service, level, logger, message)
LIMIT {limit:UInt64}
