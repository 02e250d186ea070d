-- One line for each trace that began in [since, until] (microseconds) and is as the search asks, in the order asked for;
-- see find_traces.sql for its shape. LEAD is a condition that some span of every trace found meets, WHOLE what is asked
-- of a trace beyond that: both compiled by clew.collector.search. ORDER is one of the columns below. The inner select
-- finds and orders with what that takes, the outer one tells all about those few that are answered.
-- A span that was reported in parts counts once. Without a root the earliest span stands for it. What begins before the
-- root has a clock that is behind, and does not make the trace longer.
WITH parent_id IN (toFixedString('', 8), span_id) AS is_root
SELECT lower(hex(trace_id)) AS id,
       minIf((NOT is_root, timestamp), timestamp > 0).2 AS started,
       argMin((local_service, name), (timestamp = 0, NOT is_root, timestamp)) AS root,
       max(is_root) AS has_root,
       greatest(max(timestamp + duration), started) - started AS duration_us,
       uniqExact(span_id, shared) AS spans,
       uniqExactIf((span_id, shared), mapContains(tags, 'error')) AS errors,
       groupUniqArray(local_service) AS services
FROM spans
WHERE $REACH [[buckets: AND intDiv(timestamp, 600000000) IN {buckets:Array(UInt64)}]] AND trace_id IN (
  WITH parent_id IN (toFixedString('', 8), span_id) AS is_root,
       minIf((NOT is_root, timestamp), timestamp > 0).2 AS started,
       greatest(max(timestamp + duration), started) - started AS duration_us,
       uniqExact(span_id, shared) AS spans,
       uniqExactIf((span_id, shared), mapContains(tags, 'error')) AS errors
  SELECT trace_id
  FROM spans
  WHERE $REACH
    [[buckets: AND intDiv(timestamp, 600000000) IN {buckets:Array(UInt64)}
      AND trace_id IN arrayMap(id -> toFixedString(unhex(id), 16), {few:Array(String)})]]
    [[within: AND trace_id IN (
      SELECT trace_id
      FROM spans
      WHERE $IN_TIME
    )]]
    [[LEAD: AND trace_id IN (
      SELECT trace_id
      FROM spans
      WHERE $REACH AND $LEAD
    )]]
  GROUP BY trace_id
  HAVING started > 0 AND started BETWEEN {since:UInt64} AND {until:UInt64}
     [[WHOLE: AND $WHOLE]]
     [[min_duration: AND duration_us >= {min_duration:UInt64}]]
     [[after: AND ($ORDER, lower(hex(trace_id))) < ({after_key:UInt64}, {after_id:String})]]
  ORDER BY $ORDER DESC, trace_id DESC
  LIMIT {limit:UInt64}
)
GROUP BY trace_id
ORDER BY $ORDER DESC, id DESC
