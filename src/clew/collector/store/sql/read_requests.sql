-- What the requests were that began the listed traces: path, URL and status of the span that search_traces.sql took for
-- each trace's first. It begins when the trace does, so few rows are read.
WITH parent_id IN (toFixedString('', 8), span_id) AS is_root
SELECT lower(hex(trace_id)) AS id,
       argMin((tags['http.path'], tags['http.url'], tags['http.status_code']), (NOT is_root, timestamp)) AS request
FROM spans
WHERE trace_id IN (SELECT toFixedString(unhex(arrayJoin({trace_ids:Array(String)})), 16))
  AND intDiv(timestamp, 600000000) IN {buckets:Array(UInt64)}
  AND timestamp IN {starts:Array(UInt64)}
GROUP BY trace_id
