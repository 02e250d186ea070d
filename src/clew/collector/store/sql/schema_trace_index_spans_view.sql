CREATE MATERIALIZED VIEW IF NOT EXISTS trace_index_spans_view TO trace_index AS
SELECT DISTINCT $KEY AS key, intDiv(timestamp, 600000000) AS bucket, received
FROM spans
