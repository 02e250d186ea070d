SELECT DISTINCT local_service AS name
FROM names
WHERE local_service > {after:String}
ORDER BY local_service
LIMIT {limit:UInt64}
