CREATE MATERIALIZED VIEW IF NOT EXISTS links_view TO links AS
SELECT * REPLACE (
  toDateTime(start, 'UTC') AS start, toDateTime(last, 'UTC') AS last,
  toFixedString(unhex(slow_id), 16) AS slow_id, toFixedString(unhex(failed_id), 16) AS failed_id)
FROM links_in
