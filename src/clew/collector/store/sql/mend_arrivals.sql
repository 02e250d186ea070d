-- Arrivals of the last hour, or "all", that were not counted: the difference, for what is there already would add up.
INSERT INTO arrivals
SELECT minute, spans - arrived AS rows, received
FROM (
  SELECT intDiv(timestamp, 60000000) AS minute, count() AS spans, max(received) AS received
  FROM spans
  GROUP BY minute
  [[recent: HAVING received >= now('UTC') - INTERVAL 1 HOUR]]
) AS stored
LEFT JOIN (SELECT minute, sum(rows) AS arrived FROM arrivals GROUP BY minute) AS counted USING minute
WHERE spans > arrived
