-- The ids of the traces of far_buckets.sql that have a span in the buckets [first_bucket, last_bucket].
SELECT DISTINCT $KEY AS key, lower(hex(trace_id)) AS id
FROM spans
WHERE intDiv(timestamp, 600000000) BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64}
  AND $KEY IN {keys:Array(UInt32)}
