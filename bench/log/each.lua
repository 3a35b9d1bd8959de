-- The same as fzlua --each CODE LOG, in plain Lua: lua5.4 each.lua CODE LOG

local BEFORE <const> = "for line in io.lines(...) do local value = ("
local AFTER <const> = ") if value then io.write(value, '\\n') end end"

assert(load(BEFORE .. arg[1] .. AFTER))(arg[2])
