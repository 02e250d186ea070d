-- How many spans there are of each of some minutes.
SELECT intDiv(timestamp, 60000000) AS minute, count() AS spans
FROM spans
WHERE intDiv(timestamp, 600000000) IN {buckets:Array(UInt64)} AND intDiv(timestamp, 60000000) IN {minutes:Array(UInt32)}
GROUP BY minute
