-- Traces (by the key of trace_index) with a span in the buckets [first_bucket, last_bucket] and another one outside of
-- [near_first, near_last], and where: traces that go on for long, or have spans without a time (bucket 0).
-- Two keys in a million traces may be equal by chance; then a trace too many is looked at.
SELECT DISTINCT key, bucket
FROM [[index: trace_index]][[table: far_traces]]
WHERE bucket NOT BETWEEN {near_first:UInt64} AND {near_last:UInt64}
  AND key IN (SELECT key FROM [[index: trace_index]][[table: far_traces]] WHERE bucket BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64})
