-- Traces (by the lower half of their id) with more spans than link_shapes.sql takes.
SELECT lower(hex(substring(trace_id, 9))) AS id, count() AS spans
FROM spans
WHERE $REACH
GROUP BY substring(trace_id, 9)
HAVING spans > {max_spans:UInt64} AND max(timestamp BETWEEN {since:UInt64} AND {until:UInt64})
