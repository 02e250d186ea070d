CREATE MATERIALIZED VIEW IF NOT EXISTS arrivals_view TO arrivals AS
SELECT intDiv(timestamp, 60000000) AS minute, count() AS rows, max(received) AS received
FROM spans
GROUP BY minute
