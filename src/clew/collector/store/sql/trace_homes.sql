-- The minutes of all spans of traces that have a span in some minutes: in one of them each of these traces begins, and in
-- one it was thought to begin before the latest of its spans came.
SELECT DISTINCT arrayJoin(their) AS home
FROM (
  SELECT groupUniqArray(intDiv(timestamp, 60000000)) AS their
  FROM spans
  WHERE $REACH AND timestamp > 0
  GROUP BY substring(trace_id, 9)
  HAVING hasAny(their, {minutes:Array(UInt64)})
)
