-- Where links that were counted outside are inserted; see schema_spans_in.sql.
CREATE TABLE IF NOT EXISTS links_in
(
    step UInt16, start UInt32, last UInt32, caller String, callee String, calls UInt64, errors UInt64, duration UInt64,
    buckets Array(UInt16), counts Array(UInt64), slow_us UInt64, slow_id String, failed_id String, attempt UInt64,
    seen UInt64, covered UInt64
)
ENGINE = Null
