-- Which migrations have been applied: see clew.collector.store.migrations.
CREATE TABLE IF NOT EXISTS migrations
(
    version UInt32,
    name String,
    applied DateTime('UTC') DEFAULT now('UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY version
SETTINGS old_parts_lifetime = 10
