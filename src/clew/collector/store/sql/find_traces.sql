-- Ids of traces that began in [since, until] (microseconds) and fulfil all conditions, newest first.
--
-- The second inner select finds candidates by the one condition that is likely to be rarest ("lead"); of these only the
-- outer one judges the other conditions, each of which may be fulfilled by another span of the same service, at any time.
-- A trace begins with its root, without one with its first span; so it has a span in the window ("within", worth asking
-- when the window is shorter than what is read). "loose": the lower 64 bits of the id make the trace.
WITH [[service: local_service = {service:String}]][[any_service: true]] AS here
SELECT lower(hex($TRACE)) AS id,
       minIf((parent_id NOT IN (toFixedString('', 8), span_id), timestamp), timestamp > 0).2 AS started
FROM spans
WHERE $REACH
  [[within: AND $TRACE IN (
    SELECT $TRACE
    FROM spans
    WHERE intDiv(timestamp, 600000000) BETWEEN intDiv({since:UInt64}, 600000000) AND intDiv({until:UInt64}, 600000000)
      AND timestamp BETWEEN {since:UInt64} AND {until:UInt64}
  )]]
  [[lead: AND $TRACE IN (
    SELECT $TRACE
    FROM spans
    WHERE $REACH
      [[service: AND local_service = {service:String}]]
      [[lead_name: AND name = {lead_name:String}]]
      [[lead_remote: AND remote_service = {lead_remote:String}]]
      [[lead_min: AND duration BETWEEN {lead_min:UInt64} AND {lead_max:UInt64}]]
      [[lead_value: AND has(mapValues(tags), {lead_value:String}) AND tags[{lead_key:String}] = {lead_value:String}]]
      [[lead_word: AND (mapContains(tags, {lead_word:String}) OR has(annotation_values, {lead_word:String}))]]
  )]]
GROUP BY $TRACE
HAVING started > 0 AND started BETWEEN {since:UInt64} AND {until:UInt64}
   [[name: AND max(here AND name = {name:String})]]
   [[remote: AND max(here AND remote_service = {remote:String})]]
   [[min_duration: AND max(here AND duration BETWEEN {min_duration:UInt64} AND {max_duration:UInt64})]]
   [[keys: AND arrayAll(found -> found > 0, sumForEach(arrayMap(
             (key, value) -> toUInt64(here AND if(value = '', mapContains(tags, key) OR has(annotation_values, key),
                                                  mapContains(tags, key) AND tags[key] = value)),
             {keys:Array(String)}, {values:Array(String)})))]]
ORDER BY started DESC, id DESC
LIMIT {limit:UInt64}
