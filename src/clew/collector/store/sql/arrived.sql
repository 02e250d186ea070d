-- How many spans arrived of some minutes.
SELECT sum(rows) AS spans FROM arrivals WHERE minute BETWEEN {first:UInt64} AND {last:UInt64}
