-- Ids of traces that began in [since, until] (microseconds) and fulfil all conditions, newest first.
--
-- The inner select finds candidates by the one condition that is likely to be rarest ("lead"); of these only the outer
-- one judges all conditions, each of which may be fulfilled by another span of the same service. An empty parameter is
-- no condition: the engine folds it away. Spans count that lie a little before or long after the window, for a trace
-- goes on; those without a timestamp lie in bucket 0. Not strict: the lower 64 bits of the id make the trace.
WITH ({service:String} = '' OR local_service = {service:String}) AS here,
     if({strict:Bool}, trace_id, toFixedString(concat(toFixedString('', 8), substring(trace_id, 9)), 16)) AS id
SELECT lower(hex(id)) AS trace_id,
       if(countIf(parent_id IN (toFixedString('', 8), span_id) AND timestamp > 0) > 0,
          minIf(timestamp, parent_id IN (toFixedString('', 8), span_id) AND timestamp > 0),
          minIf(timestamp, timestamp > 0)) AS started
FROM spans
WHERE (intDiv(timestamp, 600000000) BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64}
       OR intDiv(timestamp, 600000000) = 0)
  AND id IN (
    SELECT id
    FROM spans
    WHERE (intDiv(timestamp, 600000000) BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64}
           OR intDiv(timestamp, 600000000) = 0)
      AND (timestamp >= {earliest:UInt64} OR timestamp = 0)
      AND here
      AND ({lead_name:String} = '' OR name = {lead_name:String})
      AND ({lead_remote:String} = '' OR remote_service = {lead_remote:String})
      AND ({lead_min:UInt64} = 0 OR duration >= {lead_min:UInt64})
      AND ({lead_value:String} = ''
           OR (has(mapValues(tags), {lead_value:String}) AND tags[{lead_key:String}] = {lead_value:String}))
      AND ({lead_word:String} = ''
           OR mapContains(tags, {lead_word:String}) OR has(annotation_values, {lead_word:String}))
  )
GROUP BY id
HAVING started BETWEEN {since:UInt64} AND {until:UInt64}
   AND ({service:String} = '' OR max(here))
   AND ({name:String} = '' OR max(here AND name = {name:String}))
   AND ({remote:String} = '' OR max(here AND remote_service = {remote:String}))
   AND ({min_duration:UInt64} = 0
        OR max(here AND duration BETWEEN {min_duration:UInt64} AND {max_duration:UInt64}))
   AND (empty({keys:Array(String)}) OR arrayAll(found -> found > 0, sumForEach(arrayMap(
          (k, v) -> toUInt64(here AND if(v = '', mapContains(tags, k) OR has(annotation_values, k),
                                         mapContains(tags, k) AND tags[k] = v)),
          {keys:Array(String)}, {values:Array(String)}))))
ORDER BY started DESC, id DESC
LIMIT {limit:UInt64}
