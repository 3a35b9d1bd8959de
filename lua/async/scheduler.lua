--- scheduler.lua - runs the tasks of this process: those that are ready, in the order in which they
--- became ready.
--
-- A task is a table with its coroutine in _co. While it waits it is in a list of the object that it
-- waits for, in the heap of timers, or in both. wake() makes it ready; it then checks whether its
-- wait is over. A caller that waits outside of a task calls run() repeatedly.
--
--   new -- start --> ready -- run --> running -- park --> parked -- wake, timer --> ready
--   running -- returns or raises --> ended; any but running -- end_task --> ended

local Error = require "fzlua.error"
local Timers = require "fzlua.timers"
local core = require "fzlua.core"
local origin = require "fzlua.origin"

local scheduler = {}

-- Number of tasks that run before a waiter outside of tasks checks its own condition again, and the
-- loop is polled.
local TURN <const> = 64

local now, suspend, abandon_locks = core.now, core.suspend, core.abandon_locks
local task_run, task_results = core.task_run, core.task_results

-- The first and the last ready task, or nil; the field _behind of a task is the next one.
local first, last = nil, nil
local timers = Timers.new()
local in_c = {} -- a wait in C -> its task
local current = nil -- the task that runs
local interrupted = nil -- the error of Ctrl-C in a task, for the waiter outside of tasks

---@type table<table, integer> task -> its number in the order of starts; no ended tasks
local live = {}
local nlive, nserving, started = 0, 0, 0 -- nserving: number of tasks that run for another caller

-- In a child: drop the tasks of the parent. If there are none, write nothing, because a write to a
-- page copies the page.
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

---Make a parked task ready; does nothing if it is ready or has ended.
---@param task table
function scheduler.wake(task)
  if not task._parked then return end
  task._parked = false
  if task._index then timers:remove(task) end
  push(task)
end
local wake = scheduler.wake

---Let the next park() of the running task end at the time `at`. Only this function, not park(), may
---run out of memory.
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

---Let the other ready tasks run once. Returns false if the caller cannot be suspended.
---@return boolean
function scheduler.pass()
  return suspend(true) == nil
end

-- Make the coroutine of a task that is not waiting.
local function create(task, number, f, ...)
  local own
  task._co, own = core.task_new(f, ...)
  task._number, task._own, task._f = number or own, not number, f
  task._parked, task._index, task._behind = false, false, false
  -- store the task before it is counted, because the store may fail for lack of memory
  live[task] = started + 1
  started, nlive = started + 1, nlive + 1
  if number then nserving = nserving + 1 end
end

---Start a task: it becomes ready. task:finish(ok, ...) is called with its results or its error, and
---task:paused(), if there is one, each time it begins to wait.
---@param task table
---@param number integer|nil number of the task that owns this task's locks; nil: its own number
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

-- Close the variables of a task that has not ended by itself.
local function close(task, co)
  local ok, e = core.task_close(co, task._number)
  if task._own then abandon_locks(task._number) end
  return ok, e
end

local function note_traceback(task, e, co)
  task._traceback = origin.extend(e, core.traceback(co))
end

-- End a task that has raised `e`: close its variables, one of which may raise another error.
local function fail(task, e)
  local co = task._co
  pcall(note_traceback, task, e, co) -- there may be no memory
  forget(task)
  local ok, later = close(task, co)
  if not ok then e = later end
  if Error.is(e, "interrupted") then interrupted = e end
  return task:finish(false, e)
end

-- End a task whose function has returned.
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

-- Wake the tasks whose waits in C must be tried, and those whose wait is to end now.
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
    local ok, e = pcall(rawset, in_c, value, task) -- there may be no memory
    if not ok then return fail(task, e) end
    task._in_c, task._parked = value, true
  end
  if task.paused then task:paused() end
end

-- Raise the error of Ctrl-C in a task.
local function raise_interrupt()
  local e = interrupted
  if not e then return end
  interrupted = nil
  error(e, 0)
end

-- Restores the current task of the caller after tasks have run, even if Ctrl-C raises an error
-- between them.
local Restorer = {}
function Restorer:__close() current = self.task end

local outside = setmetatable({}, Restorer) -- for callers that are not tasks

local function restorer()
  if not current then return outside end
  if not current._restorer then current._restorer = setmetatable({ task = current }, Restorer) end
  return current._restorer
end

---Start a task as start() does, and run it now until its first wait.
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
  if not first then last = nil end -- so that a dropped task can be collected
end

---Run ready tasks for a short time. Raises the error of Ctrl-C in one of them.
---@return number|nil time of core.now() of the next call; 0: at once; nil: after a wake()
---@return boolean ran whether a task has run, which may have changed shared objects
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
