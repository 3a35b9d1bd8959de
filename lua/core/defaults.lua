--- defaults.lua - options of the command line, used if the script sets none.
--
-- The command fills this table once, before the script runs. The engine may come from the
-- environment, unless the variable is empty.

local engine = os.getenv "FZLUA_ENGINE"

return { engine = engine ~= "" and engine or nil }
