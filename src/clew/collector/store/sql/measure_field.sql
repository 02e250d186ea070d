-- How many of the spans chosen there are, how many of them have the field, and about how many values it has.
SELECT count() AS spans, countIf($HAS) AS having, uniqIf($VALUE, $HAS) AS different
FROM $COUNTED
