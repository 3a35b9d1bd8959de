--- window.lua - the loop over the results for the items of a source: the base class of Imap and
-- Stream.
--
-- core.imap and core.stream hold the items. Their common part (bind/jobs/lwindow) reads the
-- source, and returns results that are ready without a call of Lua code. This module waits, and
-- decides when the source is read. A result that is ready is returned before the source is read
-- again. A separate task reads the source, so that results are returned while the source waits. If
-- several tasks call the iterator, each call gets one result, in the order of the calls.
--
-- A subclass has name_error(number, e, ...) -> error, raised. `raised` is true if the error must be
-- raised even if the loop goes on after errors. A subclass may have gather(), leave(), release(),
-- whole() and complete(). It has decide_retries() if _asks is set.

local core = require "fzlua.core"
local origin = require "fzlua.origin"
local scheduler = require "fzlua.scheduler"
local turns = require "fzlua.turns"
local wait = require "fzlua.wait"
local waiters = require "fzlua.waiters"

core.follow_coroutines() -- so that a source that is a generator can wait

---@class fzlua.Window
---@field _items userdata of core.imap or core.stream
---@field _work userdata the batch or the stream, with id(), done() and close()
---@field _next function the source
---@field _closing any the source's closing value
---@field _on_error string
---@field _events table|nil with report_all() and closed
---@field _asks any whether the option retry_if decides about failures
---@field _cache fzlua.CallCache|false|nil of a stream
---@field _shown fzlua.ProgressPanel|nil
---@field _cut fzlua.Error|nil the error to raise, because the work was ended
---@field _id integer id of the object that changes before a result is ready
---@field _calls table turns of the calls of the iterator that wait
---@field _reader fzlua.Reader|false the task that reads the source
---@field _weak {window: fzlua.Window?} weak, for the reader
---@field _closed boolean
local Window = { what = "the next result of a loop" }

---@class fzlua.Reader the task that reads the source of one window
---@field _of {window: fzlua.Window?} weak, so that a window that was dropped ends its reader
local Reader = {}
Reader.__index = Reader

local WEAK <const> = { __mode = "v" }

-- Time for which results are polled after a call of a slow source, as a part of the time of the
-- call.
local POLL_SHARE <const> = 1 / 16

-- Read the source while there is room in the window and no result is ready.
local function fill(items, following, of)
  local again = false
  repeat
    local seconds = items:read(following, again)
    again = true
    if seconds then wait.until_done(of.window, seconds * POLL_SHARE) end
  until not seconds or not of.window or of.window._closed
end

---Called by scheduler.lua when the reader ends, because the source has ended or has raised an
---error.
function Reader:finish(ok, e)
  local window = self._of.window
  if not window then return end
  window._reader = false
  if not ok then window._failed = { e, self._traceback } end
  wait.wake(window)
end

---Called by scheduler.lua when the source waits. Sends the items that the source has returned, or
---ends the reader if the loop was left.
function Reader:paused()
  local window = self._of.window
  if not window or window._closed then return waiters.end_task(self) end
  local ok, e = pcall(window._items.send, window._items)
  if ok then return end
  window._failed = { e }
  wait.wake(window)
end

-- Whether the caller runs in a coroutine of the script. The source may then yield to the function
-- that resumed this coroutine.
local function in_generator()
  local co, is_main = coroutine.running()
  local task = scheduler.current()
  return not is_main and not (task and task._co == co)
end

-- Make a reader. It has all fields of a task, because a table that grows later is slow.
local function new_reader(of)
  return setmetatable({
    _of = of, _co = false, _number = false, _own = false, _f = false, _parked = false,
    _index = false, _behind = false, _list = false, _previous = false, _next = false,
    _waits_for = false,
  }, Reader)
end

-- Start to read the source. The reader runs until the source waits for the first time.
local function start_reading(self)
  if self._reader then return end
  if in_generator() then return fill(self._items, self._next, { window = self }) end
  local task, reader = scheduler.current(), new_reader(self._weak)
  self._reader = reader
  scheduler.start_now(
    reader, task and task._number or 0, fill, self._items, self._next, self._weak)
end

-- Decide about failed items, record results, and look up functions whose results may be recorded.
local function handle(self)
  if self._asks then
    self:record()
    self:decide_retries()
  end
  if not self._closed then self:record() end
  if self._cache and not self._closed then self._cache:answer() end
end

-- Call the callbacks, and pass the events of all changed items to the progress function.
local function call_back(self)
  self._pumping = wait.pumper()
  local _ <close> = setmetatable({}, { __close = function() self._pumping = nil end })
  if not self._events then return handle(self) end
  self._events:report_all(handle, self)
end

---Handle results that have arrived. Called by wait.lua.
function Window:pump()
  if self._closed or self._pumping then return end
  local calls_back = self._events or self._asks or self._cache
  if calls_back then call_back(self) end
  if self._closed then return end
  self:gather()
  -- Wake the tasks that were woken in a wait of a callback, when no result was ready for them.
  if calls_back then wait.wake(self) end
end

---@return integer id of the object that changes before a result is ready; for wait.lua
function Window:id()
  return self._id
end

---Whether a result is ready, or no result will come unless the source is read. Called by wait.lua.
function Window:done()
  return self._closed or self._items:ready() or self._failed ~= nil
    or not self._pumping and not self._reader and (self._work:done() or self._items:starves())
end

local function fail(self)
  local e, traceback = table.unpack(self._failed)
  self:close()
  origin.note(e, traceback)
  error(e, 0)
end

-- End the loop, because no result will come. Raises the error that caused the end, if there is one.
local function finish(self)
  if self._failed and not self._closed then fail(self) end
  local e = not self._closed and self:whole() or self._cut
  self._cut = nil
  if self._shown and not e and not self._closed then self._shown:finish "done" end
  self:close()
  if e then error(e, 0) end
end

local function return_error(self, number, e, ...)
  local named, raised = self:name_error(number, e, ...)
  if raised or self._on_error ~= "continue" then
    self:close()
    error(named, 0)
  end
  return number, nil, named
end

local function return_result(self, number, value, ...)
  if select("#", ...) > 0 then return return_error(self, number, ...) end
  return number, self:complete(number, value)
end

local function is_settled(self)
  return self._closed or self._items:ready()
end

-- Wait until a result is ready, or until none will come. The calls of several tasks wait one after
-- the other.
local function wait_for_result(self)
  local turn <close> = turns.add(self._calls)
  turn:wait()
  repeat
    self:pump()
    if is_settled(self) then return end
    start_reading(self)
    if not (self._closed or self._failed) then wait.until_done(self) end
  until is_settled(self) or self._failed or not self._items:starves()
end

-- Return the error in `...`, which the iterator has taken instead of a result. Without further
-- arguments, return the next result.
local function advance(self, ...)
  if ... then return return_result(self, ...) end
  if self._shown then require "fzlua.progress".poll() end
  if self._cache then self:pump() end -- so that workers get work while the loop runs
  if self._calls._first or not is_settled(self) then wait_for_result(self) end
  if self._closed or not self._items:ready() then return finish(self) end
  return return_result(self, self._items:take())
end

---Set the fields of a new object, and return the values for a generic `for`.
---@return function, nil, nil, fzlua.Window
function Window:open(class, from, options)
  self._next, self._closing, self._on_error = from.next, from.closing, options.on_error
  self._id, self._calls, self._closed = self._work:id(), { _first = false, _last = false }, false
  self._weak, self._reader = setmetatable({ window = self }, WEAK), false
  setmetatable(self, class)
  if self._shown or self._cache then self._items:advance_always() end
  return self._items:iterator(function(...) return advance(self, ...) end), nil, nil, self
end

---Store the results that have arrived.
function Window.gather() end

---Record results that have arrived, before their ends are reported.
function Window.record() end

---Record the results that have arrived, before the items are closed.
function Window.leave() end

function Window.release() end

---@return fzlua.Error|nil why the work has failed as a whole
function Window.whole() end

---The value to return for a result.
function Window.complete(_, _, value) return value end

-- End the reader. If the source itself closes the window, the reader ends when the source waits or
-- returns.
local function end_reader(self)
  local reader = self._reader
  self._reader = false
  -- An interrupt may have come before the reader had a coroutine.
  local co = reader and reader._co
  if co and coroutine.status(co) == "suspended" then waiters.end_task(reader) end
end

-- End the running work.
local function stop(self)
  if self._closed then return end
  self._closed = true
  if self._events then self._events.closed = true end
  if self._shown then self._shown:finish() end
  local _ <close> = setmetatable({}, { __close = function() end_reader(self) end })
  self:leave()
  self._items:close()
  self._work:close()
  self:release()
  wait.wake(self)
end

---End the running work, and close the source.
function Window:close()
  if self._closed then return end
  local _ <close> = self._closing
  stop(self)
end

---A class of windows.
---@param name string
---@return table
function Window.class(name)
  local class = setmetatable({
    __name = name, __fzpack = false, -- windows cannot be sent to another process
    __close = Window.close, __gc = stop,
  }, { __index = Window })
  class.__index = class
  return class
end

return Window
