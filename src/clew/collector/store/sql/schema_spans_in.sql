-- Where span JSON is inserted: keeps nothing, hands each block to the views below it, which store it.
CREATE TABLE IF NOT EXISTS spans_in ($COLUMNS) ENGINE = Null
