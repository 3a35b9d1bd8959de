--- wait.lua - makes tasks and other callers wait.
--
-- The engine reports the id of each object that has changed (core.changed). Only the watcher of
-- this object is pumped, and only the tasks that wait for it are woken.
--
-- A task that waits is suspended. Any other waiter, such as the script itself, turns the engine's
-- loop and runs tasks until its object is done. Waits for shared objects are in C and do the same
-- (bind/shared/lwait).

local Error = require "fzlua.error"
local core = require "fzlua.core"
local deadlock = require "fzlua.deadlock"
local scheduler = require "fzlua.scheduler"
local waiters = require "fzlua.waiters"

local wait = {}

local current, park, park_until = scheduler.current, scheduler.park, scheduler.park_until
local add = waiters.add

-- Id of an object -> watcher with pump(id). `loose` does not keep its watchers alive.
local firm, loose = {}, setmetatable({}, { __mode = "v" })

-- Id of an object -> list of the tasks that wait for it.
local lists = {}
-- The tasks that wait for an object without an id, which any change of an object may end.
local any = { _first = false, _last = false }
-- Id of the ticker of progress lines, and the object that is pumped after each tick; nil if there
-- are no lines.
local ticker_id, ticks

-- The id whose change is being handled, and a list of ids whose handlers ran out of memory and are
-- called again. The list has room for 8 ids, so that to add an id needs no memory.
local handled, again = nil, { 0, 0, 0, 0, 0, 0, 0, 0 }
for i = 1, 8 do again[i] = nil end

-- In a forked child: forget the watchers and tasks of the parent. An empty table is not replaced,
-- because each write copies a page of memory.
core.on_fork(function()
  if next(firm) ~= nil then firm = {} end
  if next(loose) ~= nil then loose = setmetatable({}, { __mode = "v" }) end
  if next(lists) ~= nil then lists = {} end
  for i = 1, #again do again[i] = nil end
  if any._first then any = { _first = false, _last = false } end
  if ticker_id then ticker_id, ticks = nil, nil end
end)

---Call watcher:pump(id) after each change of an object, until wait.unwatch(id).
---@param id integer
---@param watcher table
function wait.watch(id, watcher)
  firm[id] = watcher
end

---Like watch(), but the watch does not keep the watcher alive. The watch ends when the watcher is
---collected.
---@param id integer
---@param watcher table
function wait.watch_loosely(id, watcher)
  loose[id] = watcher
end

---@param id integer
function wait.unwatch(id)
  firm[id], loose[id] = nil, nil
end

---Set the ticker: ticks:pump() is called after each change of the object `id`. drain() does not
---wait for that object.
---@param id integer|nil nil: remove the ticker
---@param watcher? table
function wait.set_ticker(id, watcher)
  ticker_id, ticks = id, watcher
end

local function wake(id)
  local list = lists[id]
  if list then
    lists[id] = nil
    waiters.wake_all(list)
  end
end

-- Handle the change of an object. The id 0 stands for all shared objects.
local function handle_change(id)
  if id == 0 then return core.waits_try() end
  local watcher = firm[id] or loose[id] or id == ticker_id and ticks
  if watcher then watcher:pump(id) end
  wake(id)
end

---Wake the tasks that wait for an object whose changes the engine does not report.
---@param object table with id()
function wait.wake(object)
  wake(object:id())
end

local function handle_all(id)
  while id do
    handled = id
    handle_change(id)
    id = core.changed()
  end
  while again[1] do
    handled = table.remove(again)
    handle_change(handled)
  end
  if any._first then waiters.wake_all(any) end
end

local function pump()
  local id = core.changed()
  if not id and not again[1] then return end
  local outer = handled
  local ok, e = pcall(handle_all, id)
  if not ok and (e == "not enough memory" or Error.is(e, "memory")) then
    again[#again + 1] = handled
  end
  handled = outer
  if not ok then error(e, 0) end
end

local function nothing_watched()
  return next(firm) == nil and next(loose) == nil
end

-- Whether the engine does work that may end a wait.
local function is_working()
  return core.is_working(ticker_id and 1 or 0)
end

-- A wait in C, for a queue or a lock, calls this function to handle changes and to run tasks.
core.on_wake(function(what)
  pump()
  local at, ran = scheduler.run()
  if not what or at then return at end
  if ran then return 0 end -- the caller must try again before it waits without a timeout
  deadlock.check(what, is_working)
end)

---Whether only the caller waits: no object is watched, and there are neither tasks nor progress
---lines.
---@return boolean
function wait.alone()
  return not ticker_id and next(firm) == nil and next(loose) == nil and scheduler.count() == 0
end

-- The list of waiters to which a task is added while it waits for `object`.
local function list_for(object)
  if object.is_list then return object end
  if not object.id then return any end
  local id = object:id()
  local list = lists[id]
  if not list then
    list = { _first = false, _last = false }
    lists[id] = list
  end
  return list
end

local function raise_own_end()
  Error.raise("error", "a task waits for its own end")
end

-- Suspend the task until `object` changes, or until `at`. Returns false if that is not possible.
local function suspend(task, object, at)
  if task == object then raise_own_end() end
  local list = list_for(object)
  if at then park_until(task, at) end
  add(list, task)
  task._waits_for = object
  local suspended = park(task)
  task._waits_for = false
  waiters.remove(task)
  return suspended
end

local function is_done(object)
  if object.pump then object:pump() end
  return object:done()
end

-- Handle the events that have arrived. Returns whether the object is done.
local function poll(object)
  core.turn(0)
  pump()
  return is_done(object)
end

-- Wait in a task. Returns whether the object is done, or nil if the task cannot be suspended.
local function wait_in_task(task, object, timeout)
  if timeout and timeout <= 0 then return poll(object) end
  local at = timeout and core.now() + timeout
  while not is_done(object) do
    if at and core.now() >= at then return false end
    if not suspend(task, object, at) then return nil end
  end
  return true
end

-- The earlier of two times. nil stands for no time.
local function earlier(a, b)
  if a and b then return math.min(a, b) end
  return a or b
end

-- Run ready tasks, and turn the loop until an object changes, a task is ready or `at` comes.
local function turn(object, at)
  local seen = core.wake_count()
  local next_at, ran = scheduler.run()
  scheduler.check_cancelled()
  if object:done() then return end
  next_at = earlier(at, next_at)
  if not next_at and ran then next_at = 0 end -- the task that ran may have changed a shared object
  if not next_at and core.wake_count() == seen then deadlock.check(object, is_working) end
  core.turn(next_at and math.max(next_at - core.now(), 0), seen)
end

local function wait_in_loop(object, timeout)
  local at = timeout and core.now() + timeout
  local over = false
  deadlock.begin()
  while true do
    pump()
    if is_done(object) then return true end
    if over then return nil, "timeout" end
    over = at ~= nil and core.now() >= at
    turn(object, at)
  end
end

---The value for the field `_pumping` of an object while the caller runs callbacks of this object.
---@return table|true
function wait.pumper() return current() or true end

---Wait until object:done() is true, at most `timeout` seconds. Calls object:pump(), if it exists,
---before each check. While callbacks of the object run, the object has `_pumping` set and is not
---done. If the object has `is_list`, a task is woken by waiters.wake_all(object). Else a task is
---woken by changes of the engine's object object:id(), or by all changes if there is no id().
---@param object table
---@param timeout number|nil nil: without limit
---@return boolean|nil done, "timeout"|nil
function wait.until_done(object, timeout)
  -- If no other object must be pumped, the engine alone can wait for a batch.
  if not timeout and object.wait_alone and wait.alone() and object:wait_alone() then
    return true
  end
  if object._pumping and not timeout and object._pumping == wait.pumper() then
    Error.raise("error",
      "a result waits for itself: it is awaited in its own progress callback or __fzunpack")
  end
  local task = scheduler.current()
  local done = nil
  if task then done = wait_in_task(task, object, timeout) end
  if done then return true end
  if done == false then return nil, "timeout" end
  return wait_in_loop(object, timeout)
end

---Suspend the running task until waiters.wake_all(list). This is the most frequent wait.
---@param list table
---@return boolean suspended false at once if the caller cannot be suspended
function wait.in_list(list)
  local task = current()
  if not task then return false end
  if task == list then raise_own_end() end
  add(list, task)
  task._waits_for = list
  if park(task) then return true end
  waiters.remove(task)
  return false
end

---Turn the loop once, for a host with a loop of its own: handle changes, and run ready tasks.
---@param timeout number maximum wait in seconds if nothing is ready
---@return number|nil at the time (of core.now()) at which the next turn is due; 0: at once; nil:
---when the
---engine's descriptor becomes readable
function wait.step(timeout)
  local seen = core.wake_count()
  pump()
  local at, ran = scheduler.run()
  if at then timeout = math.min(timeout, math.max(at - core.now(), 0)) end
  local _, worked = core.turn(ran and 0 or timeout, seen)
  seen = core.wake_count()
  pump()
  at, ran = scheduler.run()
  if ran or worked or core.wake_count() ~= seen then return 0 end
  return at
end

---Wait until all started work is done and all tasks have ended.
function wait.drain()
  wait.until_done {
    what = "the end of all tasks",
    done = function() return nothing_watched() and scheduler.independent() == 0 end,
  }
end

return wait
