-- What goes first when the disk is full. A part of what is derived (names, index) goes as soon as everything in it is
-- older than all spans and log records; else the oldest part of those, but for the newest of each table.
WITH
    ('spans', 'logs') AS kept,
    parts AS
    (
        SELECT table, name, bytes_on_disk AS bytes, partition, min_time, max_time, min_block_number,
            table IN kept AS is_kept,
            row_number() OVER (PARTITION BY table ORDER BY partition DESC, min_block_number DESC) AS age
        FROM system.parts
        WHERE database = currentDatabase() AND active AND table IN ('spans', 'logs', 'trace_index', 'names', 'tag_values', 'arrivals', 'far_traces')
    ),
    (SELECT min(min_time) FROM parts WHERE is_kept) AS horizon
SELECT table, name, bytes
FROM parts
WHERE (is_kept AND age > 1) OR (NOT is_kept AND max_time < horizon)
ORDER BY is_kept, min_time, partition, min_block_number
LIMIT 1
