-- Who calls whom, by stretch of time; as schema_rates.sql. A trace belongs to the stretch in which it begins, with all its
-- calls; `last` is the one in which it ends, so that a question for a later time finds it, too. Durations and exemplars
-- are of traces of the usual shape only (link_shapes.sql); calls and errors are of all.
CREATE TABLE IF NOT EXISTS links
(
    step UInt16 CODEC(ZSTD(1)),
    start DateTime('UTC') CODEC(Delta, ZSTD(1)),
    last DateTime('UTC') CODEC(Delta, ZSTD(1)),
    caller LowCardinality(String) CODEC(ZSTD(1)),
    callee LowCardinality(String) CODEC(ZSTD(1)),
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
ORDER BY (step, caller, start, callee, last)
TTL greatest(start, toDateTime(intDiv(attempt, 1000000000), 'UTC')) + toIntervalSecond($AGE)
SETTINGS old_parts_lifetime = 10
