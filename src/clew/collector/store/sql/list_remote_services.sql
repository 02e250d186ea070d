SELECT DISTINCT remote_service AS name
FROM names
WHERE local_service = {service:String} AND remote_service > {after:String}
ORDER BY remote_service
LIMIT {limit:UInt64}
