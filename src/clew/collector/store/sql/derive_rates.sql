-- The rates of some minutes, of the spans that are there; see schema_rates.sql. A span that was reported again (same half,
-- id and begin) counts once, with the longest duration. Bucket n of a histogram begins at 2^((n-1)/16) microseconds;
-- sorting and counting them is three times faster here than sumMap (measured 2026-11).
INSERT INTO rates
  (step, start, service, name, kind, calls, errors, duration, buckets, counts, slow_us, slow_id, failed_id, attempt, seen,
   covered)
SELECT 60, toDateTime(minute * 60, 'UTC'), if(total, '', service), if(total, '', name), if(total, '', kind),
       calls, errors, us, arrayDistinct(logs) AS present, arrayMap(bucket -> countEqual(logs, bucket), present),
       slowest.2, slowest.1, failed_id, {attempt:UInt64},
       if(total, {seen:Array(UInt64)}[indexOf({minutes:Array(UInt32)}, minute)], 0),
       if(total, {covered:Array(UInt64)}[indexOf({minutes:Array(UInt32)}, minute)], 0)
FROM (
  SELECT minute, grouping(service) = 1 AS total, service, name, kind, count() AS calls, sum(failed) AS errors, sum(us) AS us,
         arraySort(groupArrayIf(toUInt16(1 + floor(16 * log2(greatest(us, 1)))), us > 0)) AS logs,
         argMax((trace_id, us), us) AS slowest, anyIf(trace_id, failed) AS failed_id
  FROM (
    SELECT toUInt32(intDiv(timestamp, 60000000)) AS minute, toString(local_service) AS service, name, kind,
           duration AS us, trace_id, mapContains(tags, 'error') AS failed
    FROM spans
    WHERE intDiv(timestamp, 600000000) IN {buckets:Array(UInt64)}
      AND intDiv(timestamp, 60000000) IN {minutes:Array(UInt32)}
    ORDER BY intDiv(timestamp, 600000000), trace_id, timestamp, span_id, shared, duration DESC
    LIMIT 1 BY trace_id, timestamp, span_id, shared
  )
  GROUP BY GROUPING SETS ((minute, service, name, kind), (minute))
  HAVING total OR service != ''
)
