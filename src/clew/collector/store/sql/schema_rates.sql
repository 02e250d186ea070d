-- Calls, errors and durations by operation (service, name, kind) and stretch of time: `step` seconds from `start`.
-- A stretch is derived as a whole, again when more spans of it arrive. All rows of one derivation have its `attempt` and
-- come in one insert, together with a row of no service that holds its totals: the newest such row says which rows count.
-- `seen`: spans that were there (only in that row); `covered`: arrivals that are dealt with (as many, but for expiry).
-- Durations (microseconds) are a histogram: clew.collector.trace.sketch. Exemplars: the slowest trace and a failed one.
CREATE TABLE IF NOT EXISTS rates
(
    step UInt16 CODEC(ZSTD(1)),
    start DateTime('UTC') CODEC(Delta, ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    name LowCardinality(String) CODEC(ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)),
    calls UInt64 CODEC(T64, ZSTD(1)),
    errors UInt64 CODEC(T64, ZSTD(1)),
    duration UInt64 CODEC(T64, ZSTD(1)),
    buckets Array(UInt16) CODEC(Delta, ZSTD(1)),
    counts Array(UInt64) CODEC(T64, ZSTD(1)),
    slow_us UInt64 CODEC(T64, ZSTD(1)),
    slow_id FixedString(16) CODEC(ZSTD(1)),
    failed_id FixedString(16) CODEC(ZSTD(1)),
    attempt UInt64 CODEC(Delta, ZSTD(1)),
    seen UInt64 CODEC(T64, ZSTD(1)),
    covered UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree(attempt)
ORDER BY (step, service, start, name, kind)
TTL greatest(start, toDateTime(intDiv(attempt, 1000000000), 'UTC')) + toIntervalSecond($AGE)
SETTINGS old_parts_lifetime = 10
