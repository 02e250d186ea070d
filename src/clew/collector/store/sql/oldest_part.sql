-- Merges join neighbours only, so the number of a part's first block tells its age within the day.
SELECT table, name, bytes_on_disk AS bytes
FROM system.parts
WHERE database = currentDatabase() AND active AND table IN ('spans', 'logs')
ORDER BY partition, min_time, min_block_number
LIMIT 1
