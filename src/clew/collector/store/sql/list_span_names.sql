SELECT DISTINCT name
FROM names
WHERE local_service = {service:String} AND name > {after:String}
ORDER BY name
LIMIT {limit:UInt64}
