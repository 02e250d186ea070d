-- Traces with spans in several ten minutes: of the keys [first_key, last_key], all or those with spans in some "buckets".
INSERT INTO far_traces (key, bucket, received)
SELECT key, bucket, received
FROM trace_index
WHERE key BETWEEN {first_key:UInt32} AND {last_key:UInt32}
  AND key IN (
    SELECT key
    FROM trace_index
    WHERE key BETWEEN {first_key:UInt32} AND {last_key:UInt32}
      [[buckets: AND key IN (SELECT $KEY FROM spans WHERE intDiv(timestamp, 600000000) IN {buckets:Array(UInt64)})]]
    GROUP BY key
    HAVING min(bucket) != max(bucket)
  )
