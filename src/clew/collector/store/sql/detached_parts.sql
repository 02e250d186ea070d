SELECT table, name, bytes_on_disk, path FROM system.detached_parts
WHERE database = currentDatabase() AND reason IN ('', 'broken-on-start', 'broken', 'unexpected', 'noquorum')
ORDER BY table, name
