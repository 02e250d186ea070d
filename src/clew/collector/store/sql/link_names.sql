-- What the hashes of link_shapes.sql stand for.
SELECT DISTINCT cityHash64(name) AS hash, toString(name) AS name
FROM (
  SELECT DISTINCT arrayJoin([local_service, remote_service]) AS name
  FROM spans
  WHERE $REACH
)
WHERE name != ''
