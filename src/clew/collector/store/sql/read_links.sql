-- Calls, errors and durations by caller and callee, of the stretches that count, and of earlier ones in which a trace
-- began that was still under way; as read_rates.sql.
WITH [[every: intDiv(toUInt32(start), {every:UInt32}) * {every:UInt32}]][[whole: toUInt32(0)]] AS begins
SELECT begin, caller, callee,
       sum(all_calls) AS calls, sum(all_errors) AS errors, sum(all_us) AS duration_us,
       groupArrayIf(bucket, bucket > 0) AS buckets, groupArrayIf(n, bucket > 0) AS counts,
       max(slow) AS slowest, slowest.1 AS slow_us, lower(hex(slowest.2)) AS slow_id, lower(hex(max(failure))) AS failed_id
FROM (
  SELECT begins AS begin, caller, callee, bucket, sum(number) AS n,
         sumIf(calls, bucket = 0) AS all_calls, sumIf(errors, bucket = 0) AS all_errors,
         sumIf(duration, bucket = 0) AS all_us, maxIf((slow_us, slow_id), bucket = 0) AS slow,
         maxIf(failed_id, bucket = 0) AS failure
  FROM links
  ARRAY JOIN arrayPushFront(buckets, 0) AS bucket, arrayPushFront(counts, 0) AS number
  WHERE start <= toDateTime({last:UInt32}, 'UTC')
    AND last >= toDateTime({first:UInt32}, 'UTC')
    AND (step, start, attempt) IN (
      SELECT unit.1, toDateTime(unit.2, 'UTC'), unit.3
      FROM (SELECT arrayJoin(arrayZip({steps:Array(UInt16)}, {starts:Array(UInt32)}, {attempts:Array(UInt64)})) AS unit))
    AND caller != ''
    [[service: AND (caller = {service:String} OR callee = {service:String})]]
  GROUP BY begin, caller, callee, bucket
)
GROUP BY begin, caller, callee
ORDER BY begin, caller, callee
