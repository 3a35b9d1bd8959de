--- defaults.lua - options of the command line, used if the script sets none.
--
-- The command fills this table once, before the script runs. The engine may be that of the
-- environment; an empty variable is none.

local engine = os.getenv "FZLUA_ENGINE"

return { engine = engine ~= "" and engine or nil }
