SELECT table, name, rows FROM system.parts
WHERE database = currentDatabase() AND active AND table != 'probe'
ORDER BY table, name
