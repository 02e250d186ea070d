-- The traces of trace_index that have spans in more than one ten minutes, and which: few, so what goes on beyond a
-- stretch of time is found at once. Made of trace_index in the background: see clew.collector.derive.far.
CREATE TABLE IF NOT EXISTS far_traces
(
    key UInt32 CODEC(Delta, ZSTD(1)),
    bucket UInt64 CODEC(Delta, ZSTD(1)),
    received DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(received)
ORDER BY (bucket, key)
TTL received + toIntervalSecond($RETAIN)
SETTINGS old_parts_lifetime = 10
