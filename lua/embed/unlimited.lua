--- unlimited.lua - functions of Lua that fzlua_limit() replaces, as they were before.
--
-- Functions of a script may have kept one. They reach a spawned worker by this name.

return {
  create = coroutine.create,
  debug_setmetatable = debug.setmetatable,
  sethook = debug.sethook,
  setmetatable = setmetatable,
  wrap = coroutine.wrap,
  xpcall = xpcall,
}
