-- In which ten minutes traces have spans or log lines: asked first, so that reading them needs no hint of the time.
SELECT DISTINCT bucket
FROM trace_index
WHERE key IN (SELECT toUInt32(cityHash64(unhex(right(arrayJoin({trace_ids:Array(String)}), 16)))))
ORDER BY bucket
