-- For each tag and value: on how many spans inside the selection and outside, the most telling first. One span in
-- {inside_every} inside, and one in {outside_every} outside, is looked at.
SELECT pair.1 AS key, pair.2 AS value, countIf(inside) AS inside_count, count() - inside_count AS outside_count
FROM (
  SELECT $INSIDE AS inside,
         arrayJoin(arrayConcat(
           mapFilter((k, v) -> k NOT LIKE 'clew.%' AND k != 'error.stack', tags)::Array(Tuple(String, String)),
           [('service', toString(local_service)), ('name', toString(name)), ('kind', toString(kind)),
            ('remote', toString(remote_service))]::Array(Tuple(String, String)))) AS pair
  FROM $COUNTED
  WHERE cityHash64(span_id) % if($INSIDE, {inside_every:UInt64}, {outside_every:UInt64}) = 0
)
WHERE pair.2 != ''
GROUP BY key, value
ORDER BY abs(inside_count / {inside:Float64} - outside_count / {outside:Float64}) DESC, key, value
LIMIT {limit:UInt64}
