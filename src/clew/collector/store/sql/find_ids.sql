-- Ids of traces, of all that is stored, between two ids (both included), in order; ids of 64 bits ("short") are looked
-- for between halves. Rows of ten minutes lie by trace id, so this reads a few rows of each ten minutes.
SELECT DISTINCT lower(hex(trace_id)) AS id
FROM (
  SELECT trace_id FROM spans
  UNION ALL
  SELECT trace_id FROM logs WHERE trace_id != toFixedString('', 16)
)
WHERE trace_id BETWEEN toFixedString(unhex({low:String}), 16) AND toFixedString(unhex({high:String}), 16)
  [[short: OR trace_id BETWEEN toFixedString(unhex(leftPad({short_low:String}, 32, '0')), 16)
                           AND toFixedString(unhex(leftPad({short_high:String}, 32, '0')), 16)]]
ORDER BY id
LIMIT {limit:UInt64}
