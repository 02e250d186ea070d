-- How many spans links would be drawn from, and the traces too long for shapes; see link_shapes.sql.
SELECT count() AS spans FROM spans
WHERE intDiv(timestamp, 600000000) BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64}
