SELECT DISTINCT name FROM names WHERE local_service = {service:String} AND name != '' ORDER BY name
