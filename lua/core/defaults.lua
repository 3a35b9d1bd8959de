--- defaults.lua - options that hold where nothing else is said: the command line's.
--
-- The command fills this table once, before the script runs.

return {}
