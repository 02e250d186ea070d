-- Who calls whom, in traces that have a span in [since, until] (microseconds). Asked twice:
--
-- * {plain} true: of plain traces (one root, every parent there and earlier than its children, no id used twice) the
--   links, counted here, and how many traces are not plain (as the link 0 to 0). The rules are those of clew.collector.trace.links, in arrays; a span is named by its position
--   in time order, `above` is the nearest span upwards that is not local. Services are hashes: see link_names.sql.
-- * {plain} false: all other traces, as shapes, and how many traces look like each: all that matters to links (per
--   span: id, parent, kind, shared, service, address, remote service, failed; ids by rank, parent -1: none, 0: never
--   came). They are linked outside.
--
-- Traces are those with a span in the "window", or those that begin in the minutes "homes": then by minute, and with
-- durations.
--
-- Traces are taken by the lower 64 bits of their id, as Zipkin links them, and in {slices} passes to bound memory. The
-- small block does so, too: a lambda gets a copy of each array that it looks into. Evaluating both sides of every `if`
-- is five times faster here than choosing (measured 2026-11).
SELECT any(shape) AS shape, link.1 AS caller, link.2 AS callee, count() AS calls, sum(link.3) AS failures
  [[homes: , home, last, sum(link.4) AS duration_us, max((link.4, id)) AS slowest, lower(hex(slowest.2)) AS slow_id,
    lower(hex(anyIf(id, link.3))) AS failed_id,
    arraySort(groupArrayIf(toUInt16(1 + floor(16 * log2(greatest(link.4, 1)))), link.4 > 0)) AS logs, arrayDistinct(logs) AS buckets,
    arrayMap(bucket -> countEqual(logs, bucket), buckets) AS counts]]
FROM (
  WITH
    arrayMap(s -> cityHash64(s.4), spans) AS kinds,
    arrayMap(s -> if(s.6 = '', 0, cityHash64(s.6)), spans) AS services,
    arrayMap(s -> s.9, spans) AS failed,
    (cityHash64('CLIENT'), cityHash64('SERVER'), cityHash64('CONSUMER'), cityHash64('')) AS kind,
    arrayMap((s, service, k, place, parent, up) -> (
      if(k = kind.4 AND service != 0 AND s.8 != '', kind.1, if(k = kind.1 AND has(parents, place), kind.4, k)),
      service,
      if(s.8 = '', 0, cityHash64(s.8)),
      if(up > 0, services[up], 0),
      s.9 OR (up > 0 AND up = parent AND kinds[up] = kind.1 AND services[up] != 0 AND failed[up]
              AND s.4 NOT IN ('PRODUCER', 'CONSUMER')),
      s.10),
      spans, services, kinds, places, parents, above) AS seen,  -- (kind, service, remote service, service above, failed, duration)
    arrayConcat(
      arrayMap(s -> (s.4, s.2, 0, 0), arrayFilter(s -> s.1 = kind.1 AND s.2 != 0 AND s.4 != s.2, seen)),
      arrayMap(s -> if(s.1 IN (kind.2, kind.3),
        (if(s.1 = kind.2 AND s.4 != 0, s.4, s.3), s.2, toUInt8(s.5), s.6),
        (if(s.1 = kind.1 AND s.2 = 0, s.4, s.2), s.3, toUInt8(s.5), s.6)), arrayFilter(s -> s.1 != kind.4, seen))) AS links,
    arraySort(s -> s.2, spans) AS by_id,
    arrayMap(s -> s.2, by_id) AS sorted_ids
  SELECT
    if({plain:Bool}, [], arrayMap(s -> (toInt32(indexOf(sorted_ids, s.2)),
      toInt32(if(s.3 = toFixedString('', 8), -1, indexOf(sorted_ids, s.3))), s.4, s.5, s.6, s.7, s.8, s.9), by_id)) AS shape,
    if({plain:Bool} AND plain, arrayFilter(link -> link.1 != 0 AND link.2 != 0, links), [(0, 0, 0, 0)]) AS found
    [[homes: , home, last, id]]
  FROM (
    WITH
      arrayMap((s, parent, place) -> if(s.4 != '', toInt32(place), parent), spans, parents, places) AS up_1,
      arrayMap(place -> if(place > 0, up_1[place], place), up_1) AS up_2,
      arrayMap(place -> if(place > 0, up_2[place], place), up_2) AS up_4,
      arrayMap(place -> if(place > 0, up_4[place], place), up_4) AS up_8,
      arrayMap(place -> if(place > 0, up_8[place], place), up_8) AS up_16
    SELECT spans, places, parents, ordered, [[homes: home, last, id,]]
           arrayMap(parent -> if(parent > 0, up_16[parent], -1), parents) AS above,
           ordered AND arrayAll((place, up) -> place < 0 OR up_16[place] = place, above, parents) AS plain
    FROM (
      SELECT spans, [[homes: home, last, id,]] arrayMap(s -> s.2, spans) AS ids, arrayEnumerate(spans) AS places,
             arrayMap(s -> toInt32(if(s.3 = toFixedString('', 8), -1, indexOf(ids, s.3))), spans) AS parents,
             length(arrayDistinct(ids)) = length(ids) AND NOT arrayExists(s -> s.5, spans)
               AND countEqual(parents, -1) = 1
               AND arrayAll((parent, place) -> parent = -1 OR (parent > 0 AND parent < place), parents, places)
               AS ordered
      FROM (
        SELECT arraySort(s -> s.1, groupUniqArray((timestamp, span_id,
                 if(parent_id = span_id, toFixedString('', 8), parent_id), toString(kind), shared,
                 toString(local_service), (toString(local_ipv4), toString(local_ipv6), local_port),
                 toString(remote_service), mapContains(tags, 'error') [[homes: , duration]][[window: , toUInt8(0)]]))) AS spans
          [[homes: , toUInt32(intDiv(minIf(timestamp, timestamp > 0), 60000000)) AS home,
            toUInt32(intDiv(max(timestamp), 60000000)) AS last, any(trace_id) AS id]]
        FROM spans
        WHERE $REACH
          AND cityHash64(substring(trace_id, 9)) % {slices:UInt64} = {slice:UInt64}
        GROUP BY substring(trace_id, 9)
        HAVING [[window: max(timestamp BETWEEN {since:UInt64} AND {until:UInt64})]][[homes: home IN {homes:Array(UInt32)}]]
          AND count() <= {max_spans:UInt64}
      )
    )
  )
  WHERE {plain:Bool} OR NOT plain
)
ARRAY JOIN found AS link
GROUP BY cityHash64(shape), link.1, link.2 [[homes: , home, last]]
SETTINGS max_block_size = 512, short_circuit_function_evaluation = 'disable'
