-- Where the JSON of log records is inserted; see schema_spans_in.sql.
CREATE TABLE IF NOT EXISTS logs_in ($COLUMNS) ENGINE = Null
