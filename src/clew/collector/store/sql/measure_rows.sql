-- How many rows a window has, for how exactly it can be counted.
SELECT count() AS number FROM spans WHERE $IN_TIME
