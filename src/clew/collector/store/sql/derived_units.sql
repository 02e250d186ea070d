-- Which stretches of a derived table count, of all that were derived: of each the newest attempt. Minutes only from
-- {recent} on; "straddling": those before the window with traces that were still under way in it;
-- "lately": only those in coarse stretches of which a minute was derived after that.
SELECT step, toUnixTimestamp(start) AS begin, max(attempt) AS newest, argMax(seen, attempt) AS spans
FROM [[rates: rates]][[links: links]]
WHERE [[rates: service]][[links: caller]] = ''
  AND step IN {steps:Array(UInt16)}
  AND (start BETWEEN toDateTime({first:UInt32}, 'UTC') AND toDateTime({last:UInt32}, 'UTC')
       AND (step > 60 OR start >= toDateTime({recent:UInt32}, 'UTC'))
  [[straddling: OR step = 60 AND start IN (
    SELECT start FROM links
    WHERE step = 60 AND caller != '' AND start < toDateTime({first:UInt32}, 'UTC') AND last >= toDateTime({first:UInt32}, 'UTC')
  )]])
  [[lately: AND intDiv(toUInt32(start), {coarse:UInt32}) IN (
    SELECT intDiv(toUInt32(start), {coarse:UInt32})
    FROM [[rates: rates]][[links: links]]
    WHERE step = 60 AND [[rates: service]][[links: caller]] = '' AND attempt > {lately:UInt64}
  )]]
GROUP BY step, start
ORDER BY start
