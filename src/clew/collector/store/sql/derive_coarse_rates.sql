-- Rates of {step} seconds, of the minutes that count: see schema_rates.sql.
INSERT INTO rates
  (step, start, service, name, kind, calls, errors, duration, buckets, counts, slow_us, slow_id, failed_id, attempt, seen,
   covered)
SELECT {step:UInt16}, toDateTime(intDiv(toUInt32(start), {step:UInt16}) * {step:UInt16}, 'UTC') AS begin, service, name, kind,
       sum(calls), sum(errors), sum(duration), (sumMap(buckets, counts) AS histogram).1, histogram.2, max(slow_us),
       argMax(slow_id, slow_us), anyIf(failed_id, errors > 0), {attempt:UInt64}, sum(seen), sum(covered)
FROM rates
WHERE step = 60 AND (start, attempt) IN (
    SELECT toDateTime(unit.1, 'UTC'), unit.2
    FROM (SELECT arrayJoin(arrayZip({starts:Array(UInt32)}, {attempts:Array(UInt64)})) AS unit))
GROUP BY begin, service, name, kind
