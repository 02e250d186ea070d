-- Of the spans of one long trace, by the lower half of its id, what matters to links; see link_long_traces.sql.
SELECT DISTINCT
  lower(hex(span_id)) AS id,
  if(parent_id IN (toFixedString('', 8), span_id), '', lower(hex(parent_id))) AS parent,
  kind, shared, local_service, local_ipv4, local_ipv6, local_port, remote_service, mapContains(tags, 'error') AS failed
FROM spans
WHERE $REACH AND substring(trace_id, 9) = unhex({trace_id:String})
