-- Values of a field of some spans of a stretch of time, with how many of those have them; long ones are no names.
SELECT value AS text, count() AS count
FROM (SELECT $VALUE AS value FROM (SELECT * FROM spans WHERE $IN_TIME LIMIT {rows:UInt64}) WHERE $HAS)
WHERE length(value) BETWEEN 1 AND 200 AND positionCaseInsensitiveUTF8(value, {prefix:String}) > 0
GROUP BY value
ORDER BY startsWith(lowerUTF8(value), lowerUTF8({prefix:String})) DESC, count DESC, value
LIMIT {limit:UInt64}
