-- Numbers of the spans chosen by the value of a field, of the most frequent values.
SELECT value, $NUMBERS
FROM (SELECT $VALUE AS value, tags, duration FROM $COUNTED WHERE $HAS)
WHERE value IN (
  SELECT value
  FROM (SELECT $VALUE AS value FROM $COUNTED WHERE $HAS)
  GROUP BY value
  ORDER BY count() DESC, value
  LIMIT {limit:UInt64}
)
GROUP BY value
ORDER BY count DESC, value
