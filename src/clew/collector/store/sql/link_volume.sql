-- How many spans links would be drawn from, and the traces too long for shapes; see link_shapes.sql.
SELECT count() AS spans FROM spans
WHERE $REACH
