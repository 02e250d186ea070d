-- Keys of tags of some spans of a stretch of time, with how many of those have them.
SELECT key AS text, count() AS count
FROM (SELECT arrayJoin(mapKeys(tags)) AS key FROM (SELECT tags FROM spans WHERE $IN_TIME LIMIT {rows:UInt64}))
WHERE positionCaseInsensitiveUTF8(key, {prefix:String}) > 0
GROUP BY key
ORDER BY startsWith(lowerUTF8(key), lowerUTF8({prefix:String})) DESC, count DESC, key
LIMIT {limit:UInt64}
