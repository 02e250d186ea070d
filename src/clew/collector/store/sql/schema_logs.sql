-- One row a log record. The same order as spans: lines of a trace lie together, and a stretch of time is one range.
CREATE TABLE IF NOT EXISTS logs
(
    $COLUMNS
)
ENGINE = MergeTree
PARTITION BY toDate(received)
ORDER BY (intDiv(timestamp, 600000000), trace_id, timestamp)
TTL received + toIntervalSecond($RETAIN)
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, min_parts_to_merge_at_once = 16
