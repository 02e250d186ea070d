-- Traces (by the lower half of their id) with more spans than link_shapes.sql takes.
SELECT groupUniqArray(lower(hex(trace_id))) AS trace_ids
FROM spans
WHERE intDiv(timestamp, 600000000) BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64}
GROUP BY substring(trace_id, 9)
HAVING count() > {max_spans:UInt64} AND max(timestamp BETWEEN {since:UInt64} AND {until:UInt64})
