-- One line for each trace that began in [since, until] (microseconds), newest first; see find_traces.sql for its shape.
-- A span that was reported in parts counts once. Without a root the earliest span stands for it. What begins before the
-- root has a clock that is behind, and does not make the trace longer.
WITH parent_id IN (toFixedString('', 8), span_id) AS is_root,
     ({service:String} = '' OR local_service = {service:String}) AS here,
     mapContains(tags, 'error') AS failed
SELECT lower(hex(trace_id)) AS trace_id,
       if(max(is_root AND timestamp > 0), minIf(timestamp, is_root AND timestamp > 0),
          minIf(timestamp, timestamp > 0)) AS started,
       argMin(local_service, (NOT is_root, timestamp)) AS root_service,
       argMin(name, (NOT is_root, timestamp)) AS root_name,
       max(is_root) AS has_root,
       max(timestamp + duration) - started AS duration_us,
       uniqExact(span_id, shared) AS spans,
       uniqExactIf((span_id, shared), failed) AS errors,
       arraySort(groupUniqArrayIf(local_service, local_service != '')) AS services
FROM spans
WHERE intDiv(timestamp, 600000000) BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64}
  AND spans.trace_id IN (
    SELECT trace_id
    FROM spans
    WHERE intDiv(timestamp, 600000000) BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64}
      AND timestamp >= {earliest:UInt64}
      AND here
      AND ({name:String} = '' OR name = {name:String})
      AND (NOT {errors_only:Bool} OR failed)
  )
GROUP BY spans.trace_id
HAVING started BETWEEN {since:UInt64} AND {until:UInt64}
   AND duration_us >= {min_duration:UInt64}
ORDER BY started DESC, trace_id DESC
LIMIT {limit:UInt64}
