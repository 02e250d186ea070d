SELECT DISTINCT value AS name FROM tag_values WHERE key = {key:String} ORDER BY name LIMIT {limit:UInt64}
