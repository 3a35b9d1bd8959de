--- async_result.lua - the future that an asynchronous call of a pool returns.
--
-- The pool settles it when its batch is done. The names come from Python's AsyncResult.

local Error = require "fzlua.error"
local Future = require "fzlua.future"
local callback = require "fzlua.callback"
local check = require "fzlua.check"
local core = require "fzlua.core"
local wait = require "fzlua.wait"

local AsyncResult = setmetatable({}, { __index = Future })
AsyncResult.__index = AsyncResult
AsyncResult.__name = "fzlua.AsyncResult"
AsyncResult.__fzpack = false -- an AsyncResult cannot be sent to another process

---@param owner table the object that does the work: pump(), and cancel() to end it
---@param options table callback, error_callback
---@return fzlua.AsyncResult
function AsyncResult.new(owner, options)
  return setmetatable({
    _owner = owner, _callback = options.callback, _error_callback = options.error_callback,
    _cancel = function() owner:cancel() end, _pid = core.pid(),
  }, AsyncResult)
end

local function call(f, ...)
  if f then callback.call("a callback", f, ...) end
end

-- Raise in a process that did not start the call, because the results do not arrive there.
local function check_owner(self)
  if self:done() or self._pid == core.pid() then return end
  Error.raise("closed", "the result belongs to the process that started the call")
end

---Settle the future: with `ok` and the results, or with false and the error.
function AsyncResult:settle(ok, ...)
  if self:done() then return end -- the call was cancelled
  if ok then
    self:_set_result(...)
    call(self._callback, ...)
  else
    if self._error_callback then self:note_awaited() end
    self:_set_error((...))
    call(self._error_callback, (...))
  end
end

-- Wait for the results of the call and return them, or raise the error of the call.
function AsyncResult:get(timeout)
  if timeout ~= nil then check.seconds(timeout, 1, "result:get") end
  return self:await(timeout)
end

---Same as get(). Every future has a method await().
---@param timeout? number
function AsyncResult:await(timeout)
  check_owner(self)
  return Future.await(self, timeout)
end

function AsyncResult:wait(timeout)
  if timeout ~= nil then check.seconds(timeout, 1, "result:wait") end
  check_owner(self)
  if self:done() then return true end
  return wait.until_done(self, timeout)
end

function AsyncResult:ready()
  check_owner(self)
  if not self:done() then wait.until_done(self, 0) end
  return self:done()
end

-- Whether the call succeeded; nil if the call is not done.
function AsyncResult:successful()
  if not self:ready() then return nil end
  self:note_awaited()
  return self._state == "result"
end

return AsyncResult
