-- One row a span as it was reported; spans that share an id are merged when they are read.
-- Sorted by ten minutes, then trace: the spans of a trace lie together, which compresses best and reads one granule.
-- `received` is rounded to minutes, so that it costs nothing; it drives retention, for the clocks of clients may be wrong.
-- Merges of small parts cost twice what inserting does; taking at least sixteen at a time merges each row less often.
CREATE TABLE IF NOT EXISTS spans
(
    $COLUMNS,
    INDEX tag_values mapValues(tags) TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toDate(received)
ORDER BY (intDiv(timestamp, 600000000), trace_id, timestamp)
TTL received + toIntervalSecond($RETAIN)
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, min_parts_to_merge_at_once = 16
