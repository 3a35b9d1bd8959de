--- task.lua - functions that take turns in one process, and their futures.
--
-- A task is a future that is settled by a coroutine. wait.lua suspends it while it waits, and
-- scheduler.lua decides when it runs.

local Collector = require "fzlua.collector"
local Error = require "fzlua.error"
local Future = require "fzlua.future"
local check = require "fzlua.check"
local core = require "fzlua.core"
local log = require "fzlua.log"
local scheduler = require "fzlua.scheduler"
local wait = require "fzlua.wait"
local waiters = require "fzlua.waiters"

core.follow_coroutines() -- so that a generator that runs inside a task may wait

local task = {}

local get_current, pass = scheduler.current, scheduler.pass

local Task = setmetatable({}, { __index = Future })
Task.__index = Task
Task.__name = "fzlua.Task"
Task.__fzpack = false -- a task cannot be sent to another process

-- A task that has not started. All fields that a wait uses are set, so that the table does not
-- grow. Also, a field of the task is found faster than a field of its class. The table has room for
-- 16 fields, and one more would double its size.
local function new()
  return setmetatable({
    _co = false, _number = false, _own = false, _f = false, _parked = false, _index = false,
    _behind = false, _list = false, _previous = false, _next = false, _waits_for = false,
    _state = false, _first = false, _last = false, paused = false,
    _value = false,
  }, Task)
end

---Settle the task with the results or the error of its function. Called by scheduler.lua.
function Task:finish(ok, ...)
  if not ok then return self:_set_error((...)) end
  if select("#", ...) == 1 then return self:_set_result(...) end
  local ok_packed, values = pcall(table.pack, ...)
  if not ok_packed then return self:_set_error(values) end
  local stored, e = pcall(rawset, self, "_values", values)
  if stored then return self:_set_packed() end
  return self:_set_error(e)
end

-- End the coroutine of a task that does not run.
local function close(self)
  -- Make the error first. If there is no memory for it, the task goes on.
  local cancelled = Error.new { kind = "cancelled", message = "the task was cancelled" }
  local ok, e = waiters.end_task(self)
  if not self._state then self:_set_error(cancelled) end
  if ok then return end
  if Error.is(e, "interrupted") then error(e, 0) end
  log.error("a <close> variable of a cancelled task raised: %s", core.error_text(e))
end

---End the task. Its <close> variables are closed, and await() raises an fz.Error of kind
---"cancelled". If the task cancels itself, cancel() raises this error. A task that runs other
---tasks, because it called a function that cannot be suspended, ends at its next wait.
---@return boolean cancelled false if the task was done before
function Task:cancel()
  if self._state or not self._co then return false end
  if self == scheduler.current() then Error.raise("cancelled", "the task has cancelled itself") end
  if coroutine.status(self._co) == "normal" then
    self._cancelled = true
  else
    close(self)
  end
  return true
end

function Task:__tostring()
  return ("fzlua.Task (%s)"):format(self._state or "pending")
end

-- Make f a task, which starts at the next wait of the caller.
function task.spawn(f, ...)
  if type(f) ~= "function" then check.type(f, "function", 1, "fz.spawn") end
  local self = new()
  scheduler.start(self, nil, f, ...)
  return self
end

---Make f a task that runs for the caller. The caller waits for the task, and both own the same
---locks.
---@param f function
---@return fzlua.Task
function task.spawn_for_caller(f, ...)
  local self, current = new(), scheduler.current()
  scheduler.start(self, current and current._number or 0, f, ...)
  return self
end

-- The object of a sleep that cannot be suspended. It is never done: only the timeout ends it.
local NEVER <const> = { done = function() return false end }

local function sleep_in_loop(seconds)
  wait.until_done(NEVER, seconds)
end

-- Wait for a number of seconds while other tasks run.
function task.sleep(seconds)
  local current = get_current()
  if seconds == 0 and current and pass() then return end
  check.seconds(seconds, 1, "fz.sleep")
  if not current or seconds == 0 then return sleep_in_loop(seconds) end
  local at = core.now() + seconds
  repeat
    scheduler.park_until(current, at)
    if not scheduler.park(current) then return sleep_in_loop(at - core.now()) end
  until core.now() >= at
end

local function check_future(value, arg, what)
  if not Future.is(value) then check.type(value, "future", arg, what) end
  return value
end

-- Check that the elements of a list are futures; returns a copy.
local function check_list(list, what)
  check.type(list, "table", 1, what)
  for i = 1, #list do
    if not Future.is(list[i]) then
      check.fail("bad argument #1 to '%s' (element %d is a %s, not a future)", what, i,
        check.typename(list[i]))
    end
  end
  return table.move(list, 1, #list, 1, {})
end

-- The first result of each future. All futures are done.
local function first_results(futures)
  local results = { n = #futures }
  for i, future in ipairs(futures) do results[i] = (future:await()) end
  return results
end

-- Wait for all futures, or raise the first error. Returns false after the timeout.
local function await_all(futures, timeout)
  local at = timeout and core.now() + timeout
  local collector <close> = Collector.new(futures)
  for _ = 1, #futures do
    local future = collector:next(at and math.max(at - core.now(), 0))
    if not future then return false end
    future:await()
  end
  return true
end

-- Wait for the results of a future. For a list of futures, wait for the first result of each.
function task.await(awaited, timeout)
  if timeout ~= nil then check.seconds(timeout, 2, "fz.await") end
  if Future.is(awaited) then return awaited:await(timeout) end
  if type(awaited) ~= "table" or getmetatable(awaited) ~= nil then
    check.type(awaited, "future or list of futures", 1, "fz.await")
  end
  local futures = check_list(awaited, "fz.await")
  if not await_all(futures, timeout) then return nil, "timeout" end
  return first_results(futures)
end

-- Cancels the pending futures when the scope is left.
local Canceller = {}
Canceller.__index = Canceller

function Canceller:__close()
  for _, future in ipairs(self) do future:cancel() end
end

function task.gather(...)
  local futures = { ... }
  for i = 1, select("#", ...) do check_future(futures[i], i, "fz.gather") end
  local _ <close> = setmetatable(table.move(futures, 1, #futures, 1, {}), Canceller)
  await_all(futures)
  local results = first_results(futures)
  return table.unpack(results, 1, results.n)
end

-- Iterate over futures in the order in which they are done.
function task.as_completed(list)
  local collector = Collector.new(check_list(list, "fz.as_completed"))
  return function() return (collector:next()) end, nil, nil, collector
end

-- Call f(...). After `timeout` seconds the call is cancelled, as a task is.
function task.with_timeout(timeout, f, ...)
  if timeout ~= nil then check.seconds(timeout, 1, "fz.with_timeout") end
  check.type(f, "function", 2, "fz.with_timeout")
  local inner = task.spawn_for_caller(f, ...)
  local _ <close> = setmetatable({ inner }, Canceller)
  local ok, why = wait.until_done(inner, timeout)
  if not ok then return nil, why end
  return inner:await()
end

-- A future that the script settles.
function task.future()
  return Future.new()
end

---End all tasks, because the script has failed. Called at the end of the script.
function task.cancel_all()
  for _, other in ipairs(scheduler.tasks()) do other:cancel() end
end

return task
