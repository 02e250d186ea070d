SELECT DISTINCT value AS name
FROM tag_values
WHERE key = {key:String} [[after: AND value > {after:String}]]
ORDER BY value
LIMIT {limit:UInt64}
