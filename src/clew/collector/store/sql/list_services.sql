SELECT DISTINCT local_service AS name FROM names ORDER BY local_service
