--- unlimited.lua - the original functions of Lua that fzlua_limit() replaces.
--
-- If such a function is an upvalue of a function that is sent to a spawned worker, its name in
-- this table is sent.

return {
  create = coroutine.create,
  debug_setmetatable = debug.setmetatable,
  sethook = debug.sethook,
  setmetatable = setmetatable,
  wrap = coroutine.wrap,
  xpcall = xpcall,
}
