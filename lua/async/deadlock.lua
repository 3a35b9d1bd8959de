--- deadlock.lua - finds waits that nothing can end, and lists what each task waits for.

local Error = require "fzlua.error"
local core = require "fzlua.core"
local scheduler = require "fzlua.scheduler"

local deadlock = {}

-- The third result of core.waits_count() when all waits for shared objects were last tried; nil if
-- they were not tried, or if another process could change the objects since then. A wait that is
-- only tried again does not change this counter.
local tried = nil

-- Set of the servers that this process has started. They cannot end a wait unless they have
-- requests.
local servers = setmetatable({}, { __mode = "k" })
core.on_fork(function()
  if next(servers) ~= nil then servers = setmetatable({}, { __mode = "k" }) end
end)

local FIRST <const> = 20 -- maximum number of tasks that the message lists

-- The position where the task waits: "at script.lua:12". Frames of this library are skipped. If the
-- function of the task has ended in a tail call, no frame is left, and the text names the function.
local function position(task)
  local co, f = task._co, task._f
  for level = 0, math.huge do
    local info = debug.getinfo(co, level, "Sl")
    if not info then break end
    if info.currentline > 0 and info.source:sub(1, 7) ~= "@fzlua/" then
      return ("at %s:%d"):format(info.short_src, info.currentline)
    end
  end
  local info = debug.getinfo(f, "S")
  if info.what == "C" then return "in a C function" end
  if info.source:sub(1, 7) == "@fzlua/" then return "in the source of a loop" end
  return ("in the function of %s:%d"):format(info.short_src, info.linedefined)
end

-- A text that says what a task waits for. `object` is the object of its wait.
local function what_of(object)
  if type(object) == "string" then return object end
  return object.what or tostring(object)
end

local function line(task)
  local what = task._in_c and core.wait_what(task._in_c)
    or task._waits_for and what_of(task._waits_for) or "?"
  return ("\n\ta task waits for %s %s"):format(what, position(task))
end

local function message(object)
  local lines = { "deadlock: nothing can end the wait for " .. what_of(object) }
  local tasks = scheduler.tasks()
  for i = 1, math.min(#tasks, FIRST) do lines[i + 1] = line(tasks[i]) end
  if #tasks > FIRST then lines[#lines + 1] = ("\n\tand %d more"):format(#tasks - FIRST) end
  return table.concat(lines)
end

---Add a server: a process that only serves requests (process:serve). The engine does not count
---servers among the processes that may end a wait, so rests() is checked.
---@param server table server:rests() is false while it may do more than wait for a request
function deadlock.add_server(server)
  servers[server] = true
end

-- Whether all servers rest, and no other process lives that could send them a request.
local function servers_rest()
  for server in pairs(servers) do
    if not server:rests() then return false end
  end
  return true
end

-- Whether another process, or a timeout, may end the wait of the caller or of a task.
local function others_may_wake(object)
  local waits, timed, done = core.waits_count()
  if timed > 0 then return true end -- a timeout will end a wait
  if type(object) ~= "string" and waits == 0 then return false end
  if not (core.is_alone() and servers_rest()) then
    tried = nil
    return true
  end
  if tried == done then return false end
  tried = done
  core.waits_try(true)
  return true
end

---Called when a wait outside of tasks begins: tries before this wait do not count.
function deadlock.begin()
  tried = nil
end

---Raise an error if nothing can end a wait. The caller waits outside of tasks and without a
---timeout. No task is ready, and no task waits until a time.
---@param object table|string the object that the caller waits for, or the description of a shared
---object
---@param is_working fun(): boolean whether the engine does work that ends a wait
function deadlock.check(object, is_working)
  if is_working() or others_may_wake(object) then return end
  tried = nil
  Error.raise("error", "%s", message(object))
end

return deadlock
