-- What the hashes of link_shapes.sql stand for.
SELECT DISTINCT cityHash64(name) AS hash, toString(name) AS name
FROM (
  SELECT DISTINCT arrayJoin([local_service, remote_service]) AS name
  FROM spans
  WHERE intDiv(timestamp, 600000000) BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64}
)
WHERE name != ''
