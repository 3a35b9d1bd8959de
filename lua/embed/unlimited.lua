--- unlimited.lua - the original functions of Lua that fzlua_limit() replaces.
--
-- A function of a script may have one of them as an upvalue, which is then sent to a spawned worker
-- as its name in this table.

return {
  create = coroutine.create,
  debug_setmetatable = debug.setmetatable,
  sethook = debug.sethook,
  setmetatable = setmetatable,
  wrap = coroutine.wrap,
  xpcall = xpcall,
}
