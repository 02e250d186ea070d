-- Arrivals of the spans that are there: what is derived (rates, links) is made of them in the background.
DROP VIEW IF EXISTS arrivals_view SYNC;
TRUNCATE TABLE arrivals;
INSERT INTO arrivals SELECT intDiv(timestamp, 60000000) AS minute, count() AS rows, max(received) AS received
FROM spans GROUP BY minute;
