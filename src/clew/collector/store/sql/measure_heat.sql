-- The same by time: for each step of the window and bucket of durations also some of the traces.
SELECT intDiv(timestamp - {since:UInt64}, {step:UInt64}) AS place, toInt32(floor(4 * log2(duration))) AS bucket,
       count() AS count, countIf(mapContains(tags, 'error')) AS errors,
       arrayMap(id -> lower(hex(id)), arrayDistinct(groupArray(3)(trace_id))) AS ids
FROM $COUNTED
WHERE duration > 0
GROUP BY place, bucket
ORDER BY place, bucket
