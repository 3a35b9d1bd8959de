--- future.lua - a result that is not there yet, and is kept once it is.

local Error = require "fzlua.error"
local check = require "fzlua.check"
local wait = require "fzlua.wait"

---@class fzlua.Future
local Future = {}
Future.__index = Future
Future.__name = "fzlua.Future"
Future.__fzpack = false -- cannot be sent

---A pending future; `cancel` is called once if it is cancelled before it is done.
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
  if self._state then Error.raise("error", "the future is done already") end
  self._state, self._value, self._cancel = state, value, nil
end

---Give the results that await() returns.
function Future:set_result(...)
  settle(self, "result", table.pack(...))
end

---Give the error, any value, that await() raises.
function Future:set_error(e)
  settle(self, "error", e)
end

---Wait for the results and return them, every time the same; raises the error.
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

---End what is under way; await() then raises an fz.Error of kind "cancelled".
---@return boolean cancelled false when it was done already
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
