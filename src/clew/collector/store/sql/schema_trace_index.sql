-- In which ten minutes a trace has spans or log lines: a trace is found by its id without a hint of its time.
-- The key is 32 bits of a hash of the lower half of the id, for some services cut the upper one off; a rare collision costs one more granule to look at, never a wrong answer.
-- Sorted numbers compress to a byte or two, so this is about 0.3 bytes a span.
CREATE TABLE IF NOT EXISTS trace_index
(
    key UInt32 CODEC(Delta, ZSTD(1)),
    bucket UInt64 CODEC(Delta, ZSTD(1)),
    received DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(received)
ORDER BY (key, bucket)
TTL received + toIntervalSecond($RETAIN)
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, min_parts_to_merge_at_once = 16, index_granularity = 1024
