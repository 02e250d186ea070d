-- Traces (by the lower half of their id) with more spans than link_shapes.sql takes.
SELECT lower(hex(substring(trace_id, 9))) AS id, count() AS spans
  [[homes: , toUInt32(intDiv(minIf(timestamp, timestamp > 0), 60000000)) AS home,
    toUInt32(intDiv(max(timestamp), 60000000)) AS last]]
FROM spans
WHERE $REACH
GROUP BY substring(trace_id, 9)
HAVING spans > {max_spans:UInt64} 
   [[window: AND max(timestamp BETWEEN {since:UInt64} AND {until:UInt64})]]
   [[homes: AND home IN {homes:Array(UInt32)}]]
