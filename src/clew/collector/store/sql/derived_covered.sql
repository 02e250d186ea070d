-- Arrivals of minutes whose rates are not made again, for fewer spans are there than they were made of.
INSERT INTO [[rates: rates]][[links: links]]
SELECT * REPLACE ({covered:Array(UInt64)}[indexOf({minutes:Array(UInt32)}, intDiv(toUInt32(start), 60))] AS covered)
FROM [[rates: rates]][[links: links]]
WHERE step = 60 AND [[rates: service]][[links: caller]] = ''
  AND (start, attempt) IN (
    SELECT toDateTime(unit.1 * 60, 'UTC'), unit.2
    FROM (SELECT arrayJoin(arrayZip({minutes:Array(UInt32)}, {attempts:Array(UInt64)})) AS unit))
