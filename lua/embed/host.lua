--- host.lua - the functions that a C host of the library calls: see src/api/fzlua.h.
--
-- The host starts tasks, each with a tag, steps the library's loop from its own loop, and fetches
-- what the tasks have returned, in the order of their ends.

local Error = require "fzlua.error"
local core = require "fzlua.core"
local task = require "fzlua.task"
local wait = require "fzlua.wait"
local waiters = require "fzlua.waiters"

local host = {}

-- The message of an error of Lua if memory is short, for example of string.rep.
local NO_MEMORY <const> = "not enough memory"

-- A task that the host has started. It is also the waiter for the end of the task.
local Started = {}
Started.__index = Started

local pending, npending = {}, 0 -- set of Started whose tasks have not ended
-- List of Started whose tasks have ended. The field _behind of each is the next one.
local first, last, nended = nil, nil, 0

-- Called when the task ends. Needs no memory, because all fields were set before.
function Started:notify()
  pending[self], npending = nil, npending - 1
  if last then last._behind = self else first = self end
  last, nended = self, nended + 1
end

---Turn any error into an fz.Error.
---@param e any
---@param traceback? string
---@return fz.Error
function host.error(e, traceback)
  if Error.is(e) then
    if not e.traceback then e.traceback = traceback end
    return e
  end
  local cause = type(e) ~= "string" and e or nil
  return Error.new {
    kind = e == NO_MEMORY and "memory" or "error", message = core.error_text(e), cause = cause,
    traceback = traceback,
  }
end

---The message handler of fzlua_call().
function host.on_error(e)
  return host.error(e, core.traceback(nil, 3))
end

local CALLABLE <const> = { ["function"] = true, table = true, userdata = true }

local function call(f, ...)
  if not CALLABLE[type(f)] then error(("attempt to call a %s value"):format(type(f)), 0) end
  return f(...)
end

-- Start the task. If this raises an error, the task may exist already, and the caller ends it.
local function start(started, f, ...)
  started.future = task.spawn(call, f, ...)
  started.future:note_awaited()
end

---Start f(...) as a task.
---@param tag lightuserdata the host's name for the task
---@param f function|table a function or a chain
function host.spawn(tag, f, ...)
  local started = setmetatable({
    tag = tag, future = false, _behind = false, _list = false, _previous = false, _next = false,
  }, Started)
  pending[started] = true
  local ok, e = pcall(start, started, f, ...)
  if not ok then
    pending[started] = nil
    if started.future then waiters.end_task(started.future) end
    error(e, 0)
  end
  npending = npending + 1
  waiters.add(started.future, started)
end

-- Remove the first ended task from the list, after its results were read. If the memory for the
-- results is lacking, the task stays in the list.
local function fetched(...)
  first, nended = first._behind or nil, nended - 1
  if not first then last = nil end
  return ...
end

---Fetch what a task has returned.
---@return boolean|nil ok nil: no further task has ended
---@return lightuserdata tag
---@return any ... results, or the fz.Error
function host.next()
  local started = first
  if not started then return nil end
  local future = started.future
  if future._state == "error" then
    return fetched(false, started.tag, host.error(future._value, future._traceback))
  end
  return fetched(true, started.tag, future:await())
end

---End the tasks with this tag. Each can still be fetched, as failed with kind "cancelled".
---@param tag lightuserdata
---@return boolean cancelled whether there was such a task
function host.cancel(tag)
  local found = {}
  for started in pairs(pending) do
    if started.tag == tag then found[#found + 1] = started.future end
  end
  for _, future in ipairs(found) do future:cancel() end
  return #found > 0
end

---@return integer number of tasks that were started and not fetched
function host.count()
  return npending + nended
end

---Turn the loop once.
---@param timeout number seconds
---@return number|nil at the time at which the next turn is due, see wait.step()
function host.step(timeout)
  return wait.step(timeout)
end

---Wait until all tasks, workers and processes have ended.
function host.finish()
  wait.drain()
  local process, future = package.loaded["fzlua.process"], package.loaded["fzlua.future"]
  if process then process.finish() end
  if future then future.log_unawaited() end
end

core.on_fork(function()
  pending, npending, first, last, nended = {}, 0, nil, nil, 0
end)

return host
