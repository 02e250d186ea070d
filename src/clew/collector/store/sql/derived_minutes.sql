-- Minutes of spans: how many have arrived, and the derivation that counts (0: none).
-- "changed": only those of which more have arrived than it covers, the newest first; "minutes": only these.
SELECT minute, arrived, newest, seen, covered
FROM (
  SELECT minute, sum(rows) AS arrived
  FROM arrivals
  WHERE minute BETWEEN 1 AND 71582787  -- the end of DateTime, 2106
    [[minutes: AND minute IN {minutes:Array(UInt32)}]]
  GROUP BY minute
) AS arrivals
LEFT JOIN (
  SELECT toUInt64(intDiv(toUInt32(start), 60)) AS minute, max(attempt) AS newest, argMax(seen, attempt) AS seen,
         max(covered) AS covered
  FROM [[rates: rates]][[links: links]]
  WHERE step = 60 AND [[rates: service]][[links: caller]] = ''
    [[minutes: AND start IN (SELECT toDateTime(arrayJoin({minutes:Array(UInt32)}) * 60, 'UTC'))]]
  GROUP BY minute
) AS derived USING minute
[[changed: WHERE arrived > covered]]
ORDER BY minute DESC
LIMIT {limit:UInt64}
