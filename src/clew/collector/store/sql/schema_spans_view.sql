-- Zipkin v2 JSON to rows, in the engine: ids to bytes, names to lower case, as Zipkin does.
CREATE MATERIALIZED VIEW IF NOT EXISTS spans_view TO spans AS
SELECT $COLUMNS FROM spans_in
