-- Log records of one trace, in time order; see read_trace.sql.
SELECT $LOG
FROM logs
WHERE trace_id = toFixedString(unhex({trace_id:String}), 16)
  AND intDiv(timestamp, 600000000) IN (
    SELECT bucket FROM trace_index WHERE key = toUInt32(cityHash64(toFixedString(unhex({trace_id:String}), 16)))
  )
  AND ({service:String} = '' OR service = {service:String})
  AND (empty({levels:Array(String)}) OR level IN {levels:Array(String)})
ORDER BY timestamp
LIMIT {limit:UInt64}
