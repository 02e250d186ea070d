CREATE MATERIALIZED VIEW IF NOT EXISTS names_view TO names AS
SELECT DISTINCT local_service, name, remote_service, received FROM spans WHERE local_service != ''
