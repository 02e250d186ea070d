-- Ids of traces that began in [since, until] (microseconds) and fulfil all conditions, newest first.
--
-- The inner select finds candidates by the one condition that is likely to be rarest ("lead"); of these only the outer
-- one judges the other conditions, each of which may be fulfilled by another span of the same service. Spans count that lie a
-- little before or long after the window, for a trace goes on; those without a timestamp lie in bucket 0. A trace
-- begins with its root, without one with its first span. "loose": the lower 64 bits of the id make the trace.
WITH [[service: local_service = {service:String}]][[any_service: true]] AS here
SELECT lower(hex([[strict: trace_id]][[loose: substring(trace_id, 9)]])) AS id,
       minIf((parent_id NOT IN (toFixedString('', 8), span_id), timestamp), timestamp > 0).2 AS started
FROM spans
WHERE (intDiv(timestamp, 600000000) BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64}
       OR intDiv(timestamp, 600000000) = 0)
  AND [[strict: trace_id]][[loose: substring(trace_id, 9)]] IN (
    SELECT [[strict: trace_id]][[loose: substring(trace_id, 9)]]
    FROM spans
    WHERE (intDiv(timestamp, 600000000) BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64}
           OR intDiv(timestamp, 600000000) = 0)
      AND (timestamp >= {earliest:UInt64} OR timestamp = 0)
      [[service: AND local_service = {service:String}]]
      [[lead_name: AND name = {lead_name:String}]]
      [[lead_remote: AND remote_service = {lead_remote:String}]]
      [[lead_min: AND duration BETWEEN {lead_min:UInt64} AND {lead_max:UInt64}]]
      [[lead_value: AND has(mapValues(tags), {lead_value:String}) AND tags[{lead_key:String}] = {lead_value:String}]]
      [[lead_word: AND (mapContains(tags, {lead_word:String}) OR has(annotation_values, {lead_word:String}))]]
  )
GROUP BY [[strict: trace_id]][[loose: substring(trace_id, 9)]]
HAVING started BETWEEN {since:UInt64} AND {until:UInt64}
   [[name: AND max(here AND name = {name:String})]]
   [[remote: AND max(here AND remote_service = {remote:String})]]
   [[min_duration: AND max(here AND duration BETWEEN {min_duration:UInt64} AND {max_duration:UInt64})]]
   [[keys: AND arrayAll(found -> found > 0, sumForEach(arrayMap(
             (key, value) -> toUInt64(here AND if(value = '', mapContains(tags, key) OR has(annotation_values, key),
                                                  mapContains(tags, key) AND tags[key] = value)),
             {keys:Array(String)}, {values:Array(String)})))]]
ORDER BY started DESC, id DESC
LIMIT {limit:UInt64}
