CREATE MATERIALIZED VIEW IF NOT EXISTS trace_index_logs_view TO trace_index AS
SELECT DISTINCT $KEY AS key, intDiv(timestamp, 600000000) AS bucket, received
FROM logs
WHERE trace_id != toFixedString('', 16)
