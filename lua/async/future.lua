--- future.lua - the results of work that may not have ended yet; they can be read more than once.

local Error = require "fzlua.error"
local check = require "fzlua.check"
local core = require "fzlua.core"
local log = require "fzlua.log"
local origin = require "fzlua.origin"
local wait = require "fzlua.wait"
local waiters = require "fzlua.waiters"

local Future = {}
Future.__index = Future
Future.__name = "fzlua.Future"
Future.__fzpack = false -- a future cannot be sent to another process
Future.is_list = true -- a future is itself the list of its waiters

Future._cancel = false -- called once if the future is cancelled before it is done
Future._state = false -- "result", "error"; false: pending
Future._settable = false -- true if the script settles the future
Future._pumping = false -- true while callbacks of the work run

local select, type = select, type
local wake_all, in_list = waiters.wake_all, wait.in_list

-- An error that was not awaited. The error is logged when its future is collected, or at the end of
-- the script.
local Unawaited = {}
Unawaited.__index = Unawaited

-- All errors that were not awaited, by numbers in the order in which they were made.
local unawaited, made = setmetatable({}, { __mode = "v" }), 0

function Unawaited:__gc()
  if self.logged or self.pid ~= core.pid() then return end
  self.logged = true
  log.error("the error of a task or future was not awaited: %s", self.text)
end

local function note_unawaited(self, e)
  if Error.is(e, "cancelled") or Error.is(e, "interrupted") then return end
  made = made + 1
  local text = core.error_text(e)
  if type(e) == "string" and self._traceback then text = text .. "\n" .. self._traceback end
  self._unawaited = setmetatable({ text = text, pid = core.pid() }, Unawaited)
  unawaited[made] = self._unawaited
end

function Future.log_unawaited()
  local numbers = {}
  for number in pairs(unawaited) do numbers[#numbers + 1] = number end
  table.sort(numbers)
  for _, number in ipairs(numbers) do unawaited[number]:__gc() end
end

---A pending future. `cancel` is called once if the future is cancelled before it is done.
---@param cancel? fun()
---@return fzlua.Future
function Future.new(cancel)
  -- Set all fields that a wait uses, so that the table does not grow later. Also, a field of the
  -- future is found faster than a field of its class.
  return setmetatable({
    _cancel = cancel, _settable = not cancel, _state = false, _value = false, _values = false,
    _first = false, _last = false, _pumping = false,
  }, Future)
end

function Future:done()
  return self._state ~= false
end

local function check_self(self, method)
  if type(self) ~= "table" then check.no_self("future", "future:" .. method) end
end

-- Note that the results are stored.
function Future:_set_packed()
  self._state = "result"
  if self._cancel then self._cancel = false end
  if self._first then wake_all(self) end
end

function Future:_set_result(...)
  if select("#", ...) == 1 then
    self._value = (...)
  else -- store the results first: if there is no memory for them, the future stays pending
    self._values = table.pack(...)
  end
  return self:_set_packed()
end

function Future:_set_error(e)
  self._state, self._value = "error", e
  if self._cancel then self._cancel = false end
  if self._first then wake_all(self) end
  if not self._awaited then note_unawaited(self, e) end
end

-- Raise if the future is done, or if a task, a run or a call settles it.
local function check_settable(self, method)
  check_self(self, method)
  if self._state then Error.raise("error", "the future already has a result or an error") end
  if not self._settable then
    Error.raise("error", "future:%s: a task, run or call sets the result of this future", method)
  end
end

-- Set the results that await() returns.
function Future:set_result(...)
  if type(self) ~= "table" or self._state or not self._settable then
    check_settable(self, "set_result")
  end
  self:_set_result(...)
end

-- Set the error that await() raises. The error can be any value.
function Future:set_error(e)
  check_settable(self, "set_error")
  self:_set_error(e)
end

---Do not log the error of the future, because the caller of this function receives the error.
function Future:note_awaited()
  self._awaited = true
  if self._unawaited then self._unawaited.logged, self._unawaited = true, nil end
end

local function raise(self)
  self:note_awaited()
  origin.note(self._value, self._traceback)
  error(self._value, 0)
end

-- Wait for the results and return them, or raise the error. Each call returns the same results.
function Future:await(timeout)
  if type(self) ~= "table" then check_self(self, "await") end
  if timeout ~= nil then check.seconds(timeout, 1, "future:await") end
  if not self._state and (timeout or self._pumping or not in_list(self)) then
    local ok, why = wait.until_done(self, timeout)
    if not ok then return nil, why end
  end
  if self._state == "error" then raise(self) end
  local values = self._values
  if not values then return self._value end
  return table.unpack(values, 1, values.n)
end

-- Whether the future has an error, and was not cancelled.
function Future:failed()
  return self._state == "error" and not Error.is(self._value, "cancelled")
end

-- Cancel the work; await() then raises an fz.Error of kind "cancelled".
function Future:cancel()
  check_self(self, "cancel")
  if self._state then return false end
  local cancel = self._cancel
  self:_set_error(Error.new { kind = "cancelled", message = "cancelled" })
  if cancel then cancel() end
  return true
end

---Whether `value` is a future of any kind. No code of the value's class runs.
---@param value any
---@return boolean
function Future.is(value)
  local class = type(value) == "table" and getmetatable(value)
  local base = type(class) == "table" and getmetatable(class)
  return rawequal(class, Future) or type(base) == "table" and rawget(base, "__index") == Future
end

function Future:__tostring()
  return ("fzlua.Future (%s)"):format(self._state or "pending")
end

return Future
