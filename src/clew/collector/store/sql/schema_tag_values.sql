-- Values of the tags that the setting autocomplete_keys names, for autocomplete.
CREATE TABLE IF NOT EXISTS tag_values
(
    key LowCardinality(String),
    value String,
    received DateTime('UTC')
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(received)
ORDER BY (key, value)
TTL received + toIntervalSecond($RETAIN)
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 60, min_parts_to_merge_at_once = 16
