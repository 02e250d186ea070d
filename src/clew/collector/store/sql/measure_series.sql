-- Numbers of the spans chosen, for each step (microseconds) of the window and over all of it ("total").
SELECT grouping(place) = 1 AS total, place, $NUMBERS
FROM (SELECT intDiv(timestamp - {since:UInt64}, {step:UInt64}) AS place, tags, duration FROM $COUNTED)
GROUP BY GROUPING SETS ((place), ())
ORDER BY place
