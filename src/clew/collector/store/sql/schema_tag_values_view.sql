CREATE MATERIALIZED VIEW tag_values_view TO tag_values AS
SELECT DISTINCT tag.1 AS key, tag.2 AS value, received
FROM (SELECT arrayJoin(mapFilter((k, v) -> k IN ($KEYS), tags)::Array(Tuple(String, String))) AS tag, received FROM spans)
