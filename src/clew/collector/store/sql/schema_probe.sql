-- What is inserted to find out whether the store takes anything. Made at the start: a definition that is written while
-- the disk is full may stay empty, and an engine with an empty one does not open.
CREATE TABLE IF NOT EXISTS probe (n UInt8) ENGINE = ReplacingMergeTree ORDER BY n SETTINGS old_parts_lifetime = 10
