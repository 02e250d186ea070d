-- Which services, span names and remote services there are.
CREATE TABLE IF NOT EXISTS names
(
    local_service LowCardinality(String),
    name LowCardinality(String),
    remote_service LowCardinality(String),
    received DateTime('UTC')
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(received)
ORDER BY (local_service, name, remote_service)
TTL received + toIntervalSecond($RETAIN)
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, min_parts_to_merge_at_once = 16
