-- How many of the spans chosen took how long: bucket n is from 2^(n/4) microseconds to the next one's begin.
SELECT toInt32(floor(4 * log2(duration))) AS bucket, count() AS count, countIf(mapContains(tags, 'error')) AS errors
FROM $COUNTED
WHERE duration > 0
GROUP BY bucket
ORDER BY bucket
