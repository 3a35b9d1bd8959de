--- scheduler.lua - runs the tasks of this process, in the order in which they became ready.
---
--- A task is a table with its coroutine in _co. A waiting task is in the list of the object for
--- which it waits, in the heap of timers, or in both. wake() makes the task ready, and the task
--- then checks whether its wait is over. A caller that waits outside of a task calls run()
--- repeatedly.
---
---   new -- start --> ready -- run --> running -- park --> parked -- wake, timer --> ready
---   running -- returns or raises --> ended; any but running -- end_task --> ended

local Error = require "fzlua.error"
local Timers = require "fzlua.timers"
local core = require "fzlua.core"
local origin = require "fzlua.origin"

local scheduler = {}

-- Maximum number of tasks that run in one turn. After each turn, a waiter outside of tasks checks
-- its own condition, and the loop is polled.
local TURN <const> = 64

local now, suspend, abandon_locks = core.now, core.suspend, core.abandon_locks
local task_run, task_results = core.task_run, core.task_results

-- The first and the last ready task, or nil. The field _behind of a task is the next ready task.
local first, last = nil, nil
local timers = Timers.new()
local in_c = {} -- a wait in C -> the task that waits there
local current = nil -- the task that runs
local interrupted = nil -- the error of Ctrl-C in a task, for the waiter outside of tasks

---@type table<table, integer> task -> its number in the order of starts; no ended tasks
local live = {}
local nlive, nserving, started = 0, 0, 0 -- nserving: number of tasks that run for another caller

-- In a forked child: drop the tasks of the parent. If the parent has no tasks, write nothing,
-- because each write copies a page of memory.
core.on_fork(function()
  if nlive == 0 and not first and not current and not interrupted and timers.n == 0
    and next(in_c) == nil then
    return
  end
  first, last = nil, nil
  timers, in_c, live, nlive, nserving = Timers.new(), {}, {}, 0, 0
  current, interrupted = nil, nil
end)

---The task that runs, even if it cannot be suspended; nil outside of tasks.
---@return table|nil
function scheduler.current()
  return current
end

---@return integer number of tasks that have not ended
function scheduler.count()
  return nlive
end

---@return integer number of tasks that have not ended and run for no other caller
function scheduler.independent()
  return nlive - nserving
end

local function push(task)
  local before = last
  if first then before._behind = task else first = task end
  last = task
end

---Make a parked task ready. Does nothing if the task is ready or has ended.
---@param task table
function scheduler.wake(task)
  if not task._parked then return end
  task._parked = false
  if task._index then timers:remove(task) end
  push(task)
end
local wake = scheduler.wake

---Set the time `at` at which the next park() of the running task ends. This function may run out
---of memory, so that park() need not allocate.
---@param task table current()
---@param at number
function scheduler.park_until(task, at)
  timers:add(task, at)
end

---Suspend the running task until wake(), or until the time of park_until().
---@param task table current()
---@return boolean suspended false at once if the caller cannot be suspended
function scheduler.park(task)
  task._parked = true
  if suspend() == nil then return true end
  task._parked = false
  timers:remove(task)
  return false
end

---Suspend the running task until all other ready tasks have run once. Returns false if the caller
---cannot be suspended.
---@return boolean
function scheduler.pass()
  return suspend(true) == nil
end

-- Make the coroutine of a new task, and count the task. The task does not become ready here.
local function create(task, number, f, ...)
  local own
  task._co, own = core.task_new(f, ...)
  task._number, task._own, task._f = number or own, not number, f
  task._parked, task._index, task._behind = false, false, false
  -- Store the task before it is counted, because the store may fail for lack of memory.
  live[task] = started + 1
  started, nlive = started + 1, nlive + 1
  if number then nserving = nserving + 1 end
end

---Make a new task ready. When the task ends, task:finish(ok, ...) is called with its results or
---its error. Each time the task begins to wait, task:paused() is called if the task has this
---method.
---@param task table
---@param number integer|nil number of the task that owns the locks of this task; nil: this task
---owns its locks
---@param f function
function scheduler.start(task, number, f, ...)
  create(task, number, f, ...)
  push(task)
end

local function forget(task)
  if live[task] then
    live[task], nlive = nil, nlive - 1
    if not task._own then nserving = nserving - 1 end
  end
  task._co, task._f = nil, nil
end

-- Close the variables of a task whose function did not return.
local function close(task, co)
  local ok, e = core.task_close(co, task._number)
  if task._own then abandon_locks(task._number) end
  return ok, e
end

local function note_traceback(task, e, co)
  task._traceback = origin.extend(e, core.traceback(co))
end

-- End a task that has raised `e`. The <close> variables of the task are closed, and one of them may
-- raise another error.
local function fail(task, e)
  local co = task._co
  pcall(note_traceback, task, e, co) -- pcall: there may be no memory
  forget(task)
  local ok, later = close(task, co)
  if not ok then e = later end
  if Error.is(e, "interrupted") then interrupted = e end
  return task:finish(false, e)
end

local function finish(task)
  local co = task._co
  forget(task)
  if task._own then abandon_locks(task._number) end
  return task:finish(true, task_results(co))
end

---End a task that does not run, and close its variables.
---@param task table
---@return boolean ok, any error of a variable
function scheduler.end_task(task)
  local co = task._co
  timers:remove(task)
  if task._in_c then in_c[task._in_c] = nil end
  task._parked = false
  forget(task)
  return close(task, co)
end

-- Wake the tasks whose wait in C must be tried again, and the tasks whose time has come.
local function wake_due()
  if nlive == 0 then return end
  local wait = core.waits_woken()
  while wait do
    local task = in_c[wait]
    in_c[wait] = nil
    if task then
      task._in_c = nil
      wake(task)
    end
    wait = core.waits_woken()
  end
  if timers.n == 0 then return end
  local at = now()
  local task = timers:due(at)
  while task do
    wake(task)
    task = timers:due(at)
  end
end

-- Run a task that is not parked, unless it has ended.
local function run(task)
  local co = task._co
  if not co then return end
  current = task
  local ended, value = task_run(co, task._number)
  if ended then return finish(task) end
  if ended == false then return fail(task, value) end
  if value == true then
    push(task)
  elseif value then
    local ok, e = pcall(rawset, in_c, value, task) -- pcall: there may be no memory
    if not ok then return fail(task, e) end
    task._in_c, task._parked = value, true
  end
  if task.paused then task:paused() end
end

-- Raise the error that Ctrl-C raised in a task, if there is such an error.
local function raise_interrupt()
  local e = interrupted
  if not e then return end
  interrupted = nil
  error(e, 0)
end

-- Its __close() sets `current` back to the task of the caller after other tasks have run, even if
-- Ctrl-C raises an error between two of them.
local Restorer = {}
function Restorer:__close() current = self.task end

local outside = setmetatable({}, Restorer) -- the Restorer of callers that are not tasks

local function restorer()
  if not current then return outside end
  if not current._restorer then current._restorer = setmetatable({ task = current }, Restorer) end
  return current._restorer
end

---Create a task as start() does, and run the task at once until its first wait.
function scheduler.start_now(task, number, f, ...)
  local _ <close> = restorer()
  create(task, number, f, ...)
  run(task)
  raise_interrupt()
end

local function run_ready()
  local _ <close> = restorer()
  for _ = 1, TURN do
    local task = first
    if not task or interrupted then break end
    first, task._behind = task._behind, false
    run(task)
  end
  if not first then last = nil end -- so that an ended task can be collected
end

---Run at most TURN ready tasks. Raises the error that Ctrl-C raised in one of them.
---@return number|nil the time (of core.now()) at which this function must be called again; 0: at
---once; nil: after a wake()
---@return boolean ran whether a task has run (it may have changed shared objects)
function scheduler.run()
  wake_due()
  local ran = first and true or false
  if ran then run_ready() end
  raise_interrupt()
  return first and 0 or timers:next(), ran
end

---Raise "cancelled" if the running task was cancelled while it could not be suspended.
function scheduler.check_cancelled()
  if current and current._cancelled then
    current._cancelled = nil
    Error.raise("cancelled", "cancelled")
  end
end

---The tasks that have not ended, in the order of their starts.
---@return table[]
function scheduler.tasks()
  local list = {}
  for task in pairs(live) do list[#list + 1] = task end
  table.sort(list, function(a, b) return live[a] < live[b] end)
  return list
end

return scheduler
