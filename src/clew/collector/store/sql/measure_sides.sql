-- How many of the spans chosen are inside the selection, how many outside.
SELECT countIf($INSIDE) AS inside, count() - inside AS outside FROM $COUNTED
