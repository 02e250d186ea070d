-- How many spans have arrived of each minute of their own time: what is derived knows by it which minutes have changed.
CREATE TABLE IF NOT EXISTS arrivals
(
    minute UInt64 CODEC(Delta, ZSTD(1)),
    rows UInt64 CODEC(T64, ZSTD(1)),
    received DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = SummingMergeTree(rows)
PARTITION BY toDate(received)
ORDER BY minute
TTL received + toIntervalSecond($RETAIN)
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 10, min_parts_to_merge_at_once = 16
