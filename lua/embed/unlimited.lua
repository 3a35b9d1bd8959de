--- unlimited.lua - the original functions of Lua that fzlua_limit() replaces.
--
-- Functions of a script may refer to one of them. It reaches a spawned worker by its name here.

return {
  create = coroutine.create,
  debug_setmetatable = debug.setmetatable,
  sethook = debug.sethook,
  setmetatable = setmetatable,
  wrap = coroutine.wrap,
  xpcall = xpcall,
}
