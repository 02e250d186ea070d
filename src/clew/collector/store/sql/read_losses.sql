-- What processes said that they had to drop: by service, reason and time. The counts travel with later spans.
SELECT service, reason, sum(number) AS count, min(timestamp) AS first, max(timestamp) AS last,
       sumMap([toUInt64(intDiv(timestamp - {since:UInt64}, {step:UInt64}))], [number]) AS points
FROM (
  SELECT toString(local_service) AS service, timestamp,
         splitByChar('=', trimBoth(arrayJoin(splitByChar(',', tags['clew.dropped'])))) AS item,
         item[1] AS reason, toUInt64OrZero(substring(item[2], 1, 15)) AS number
  FROM $COUNTED
  WHERE mapContains(tags, 'clew.dropped') [[services: AND local_service IN {services:Array(String)}]]
)
WHERE number > 0 AND reason != ''
GROUP BY service, reason
ORDER BY count DESC, service, reason
LIMIT {limit:UInt64}
