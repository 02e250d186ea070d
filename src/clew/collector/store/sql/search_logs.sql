-- The newest log lines of a stretch of time that are as a search asks; see clew.collector.search.lines.
WITH cityHash64(trace_id, span_id, service, level, logger, message) AS digest
SELECT $LOG, digest
FROM logs
WHERE $IN_TIME AND $WANTED
  [[after: AND (timestamp, digest) < ({after_us:UInt64}, {after_digest:UInt64})]]
ORDER BY timestamp DESC, digest DESC
LIMIT {limit:UInt64}
