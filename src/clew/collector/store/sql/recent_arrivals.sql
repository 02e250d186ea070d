-- How many spans have arrived of each ten minutes of which some came lately.
SELECT intDiv(minute, 10) AS bucket, sum(rows) AS arrived
FROM arrivals
WHERE intDiv(minute, 10) IN (SELECT intDiv(minute, 10) FROM arrivals WHERE received >= now('UTC') - 1200)
GROUP BY bucket
