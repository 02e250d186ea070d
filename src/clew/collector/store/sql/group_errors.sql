-- Failures that are alike, the most frequent first: by type, pattern of the message and innermost frame of code that is
-- not a library's. In a pattern stands * for what differs from one to the next: ids, numbers, quoted text.
SELECT type, pattern, frame, count() AS count, min(timestamp) AS first, max(timestamp) AS last,
       arraySort(groupUniqArray(50)(local_service)) AS services,
       argMax(text, timestamp) AS example, lower(hex(argMax(trace_id, timestamp))) AS id,
       sumMap([toUInt64(intDiv(timestamp - {since:UInt64}, {step:UInt64}))], [toUInt64(1)]) AS points
FROM (
  WITH
    extractAll(tags['error.stack'], '(File "[^"\n]+", line [0-9]+, in [^\n]+)') AS frames,
    arrayFilter(frame -> NOT match(frame, 'site-packages|dist-packages|/lib/python[0-9.]+/|<frozen|<string>'), frames) AS own,
    if(empty(own), frames, own)[-1] AS innermost,
    multiIf(tags['error.type'] != '', tags['error.type'], tags['exception.type']) AS its_type,
    substring(splitByChar('\n', tags['error'])[1], 1, 300) AS its_text,
    if(match(its_text, '^[0-9]{3}$'), its_text,
       replaceRegexpAll(
         replaceRegexpAll(
           replaceRegexpAll(its_text, '(''[^'']*''|"[^"]*")', '*'),
           '\\b(0x)?[0-9a-fA-F]{8,}(-[0-9a-fA-F]{4,})*\\b', '*'),
         '[0-9]+([.][0-9]+)*', '*')) AS its_pattern
  SELECT its_type AS type, its_pattern AS pattern, innermost AS frame, its_text AS text,
         timestamp, toString(local_service) AS local_service, trace_id
  FROM $COUNTED
  WHERE mapContains(tags, 'error')
)
GROUP BY type, pattern, frame
ORDER BY count DESC, last DESC, type, pattern, frame
LIMIT {limit:UInt64}
