-- Traces number {first} to {first} + {count} of {traces} over a day from {begin} (microseconds): 12 spans each, 20
-- services, 40 operations a service (half of them local), 5 tags a span, one in a hundred with an error. Straight into the table: making the
-- JSON would take longer than what is to be measured.
INSERT INTO spans (trace_id, span_id, parent_id, timestamp, duration, kind, name, local_service, local_ipv4, local_ipv6,
  local_port, remote_service, remote_ipv4, remote_ipv6, remote_port, debug, shared, tags, annotation_ts,
  annotation_values, received)
WITH
  [0, 1, 2, 3, 3, 5, 1, 7, 8, 8, 1, 8] AS parents,
  ['SERVER', 'CLIENT', 'SERVER', '', 'CLIENT', 'SERVER', 'CLIENT', 'SERVER', '', 'CLIENT', '', ''] AS kinds,
  [1, 1, 2, 2, 2, 3, 1, 4, 4, 4, 1, 4] AS homes,
  [0, 2, 0, 0, 3, 0, 4, 0, 0, 5, 0, 0] AS remotes,
  [1., 0.5, 0.45, 0.1, 0.3, 0.25, 0.4, 0.35, 0.05, 0.2, 0.02, 0.01] AS shares,
  [0., 0.02, 0.04, 0.05, 0.16, 0.18, 0.55, 0.57, 0.58, 0.65, 0.01, 0.9] AS starts,
  arrayMap(hop -> toUInt8((cityHash64(trace) % 20 + hop * (1 + cityHash64(trace, 'way') % 3)) % 20), range(4)) AS way,
  exp(10 + 1.2 * sqrt(-2 * log((cityHash64(trace, 'u') % 1000000 + 1) / 1000001)) * cos(6.283185 * (cityHash64(trace, 'v') % 1000000) / 1000000)) AS root_us,
  {begin:UInt64} + toUInt64(trace * (86400000000. / {traces:UInt64})) AS started,
  cityHash64(trace, place) AS luck,
  way[homes[place]] AS service,
  least(luck % 20, intDiv(luck, 256) % 20) AS operation,
  cityHash64(trace, 'fails') % 100 = 0 AND place IN (1, 2, 3, 5, 6) AS failed
SELECT
  toFixedString(concat(reinterpretAsFixedString(cityHash64(trace, 'high')), reinterpretAsFixedString(cityHash64(trace, 'low'))), 16),
  reinterpretAsFixedString(luck),
  if(parents[place] = 0, toFixedString('', 8), reinterpretAsFixedString(cityHash64(trace, parents[place]))),
  started + toUInt64(root_us * starts[place]),
  toUInt64(root_us * shares[place]) + 1,
  kinds[place],
  if(kinds[place] IN ('SERVER', 'CLIENT'), concat(['get', 'post', 'put'][1 + operation % 3], ' /v1/resource-', toString(operation)), concat('work-', toString(operation))),
  concat('service-', leftPad(toString(service), 2, '0')),
  concat('10.0.', toString(service), '.', toString(luck % 4 + 1)), '', 8080,
  multiIf(remotes[place] = 0, '', remotes[place] = 5, 'postgresql', concat('service-', leftPad(toString(way[remotes[place]]), 2, '0'))),
  '', '', 0, false, false,
  mapConcat(map(
    'http.method', ['GET', 'POST', 'PUT'][1 + operation % 3],
    'http.path', concat('/v1/resource-', toString(operation), '/', toString(intDiv(luck, 65536) % 5000)),
    'http.status_code', if(failed, '500', '200'),
    'host', concat('pod-', toString(service), '-', toString(luck % 4)),
    'customer.id', toString(cityHash64(trace, 'customer') % 100000)), if(failed, map('error', 'upstream timed out'), map())),
  [], [],
  toDateTime(intDiv(started, 600000000) * 600 + 600, 'UTC')
FROM (SELECT number AS trace, arrayJoin(range(1, 13)) AS place FROM numbers({first:UInt64}, {count:UInt64}))
