SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts
FROM system.parts
WHERE database = currentDatabase() AND active AND table NOT IN ('probe', 'migrations')
GROUP BY table
ORDER BY bytes DESC
