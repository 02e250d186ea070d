-- How many log lines there are of each level, for each step (microseconds) of the window.
SELECT intDiv(timestamp - {since:UInt64}, {step:UInt64}) AS place, toString(level) AS its_level, count() AS count
FROM logs
WHERE $IN_TIME AND $WANTED
GROUP BY place, its_level
ORDER BY place, its_level
