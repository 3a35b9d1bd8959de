--- future.lua - a result that comes later, and stays.

local Error = require "fzlua.error"
local check = require "fzlua.check"
local wait = require "fzlua.wait"

---@class fzlua.Future
local Future = {}
Future.__index = Future
Future.__name = "fzlua.Future"
Future.__fzpack = false -- cannot be sent

---A pending future. `cancel` is called once if the future is cancelled before it is done.
---@param cancel? fun()
---@return fzlua.Future
function Future.new(cancel)
  return setmetatable({ _cancel = cancel }, Future)
end

---@return boolean
function Future:done()
  return self._state ~= nil
end

local function settle(self, state, value)
  if self._state then Error.raise("error", "the future already has a result or an error") end
  self._state, self._value, self._cancel = state, value, nil
end

---Set the results that await() returns.
function Future:set_result(...)
  settle(self, "result", table.pack(...))
end

---Set the error, any value, that await() raises.
function Future:set_error(e)
  settle(self, "error", e)
end

---Wait for the results and return them, the same ones each time; raises the error.
---@param timeout? number seconds; running out returns nil, "timeout"
function Future:await(timeout)
  if timeout ~= nil then timeout = check.option("timeout", timeout, "future:await") end
  if not self._state then
    local ok, why = wait.until_done(self, timeout)
    if not ok then return nil, why end
  end
  if self._state == "error" then error(self._value, 0) end
  return table.unpack(self._value, 1, self._value.n)
end

---Cancel the work; await() then raises an fz.Error of kind "cancelled".
---@return boolean cancelled false if it was done before
function Future:cancel()
  if self._state then return false end
  local cancel = self._cancel
  self:set_error(Error.new { kind = "cancelled", message = "cancelled" })
  if cancel then cancel() end
  return true
end

function Future:__tostring()
  return ("fzlua.Future (%s)"):format(self._state or "pending")
end

return Future
