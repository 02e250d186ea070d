SELECT table, rows FROM system.parts WHERE database = currentDatabase() AND active AND name = {name:String}
