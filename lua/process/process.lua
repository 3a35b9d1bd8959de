--- process.lua - fz.process: one function in its own process.
--
-- A forked process inherits the function and its arguments. A spawned process receives them by
-- value. wait.lua does not watch processes: only join() waits for a process, and the end of the
-- script waits for all processes that are not daemons.

local core = require "fzlua.core"
local made = require "fzlua.made"
local Error = require "fzlua.error"
local Future = require "fzlua.future"
local check = require "fzlua.check"
local identity = require "fzlua.identity"
local wait = require "fzlua.wait"

local process = {}

local Process = {}
Process.__name = "fzlua.Process"
Process.__fzpack = false -- a process cannot be sent to another process

-- The state of this process; each forked process makes its own.
--
--   pid       pid of this process
--   path      "" in the script, "1:" in its first process, "1:2:" in the second process of that
-- process
--   children  processes that were started and are not known to have ended, in order. The list keeps
--             them from being collected while they run
--   count     number of processes made, for their names
local state

local function own_state(path)
  return { pid = core.pid(), path = path, children = {}, count = 0 }
end

-- The state of this process. A worker of a stage makes its state at the first use.
local function here()
  if not state or state.pid ~= core.pid() then state = own_state "" end
  return state
end

-- Remove children that are known to have ended.
local function prune()
  local live = {}
  for _, child in ipairs(here().children) do
    if not child._handle:done() then live[#live + 1] = child end
  end
  state.children = live
  return live
end

-- Note which children have died, and return the living children.
local function live_children()
  core.poll()
  return prune()
end

-- Wait for the processes that are not daemons.
local function join_children()
  local i = 1
  while here().children[i] do
    local child = here().children[i]
    if child.daemon then
      i = i + 1
    else
      child:join()
    end
  end
end

-- Under lua5.4 no code of this library runs at the end of the script. So an object has a finalizer
-- that waits for the processes when the Lua state is closed. Each forked process makes such an
-- object again, because Lua finalizes the newest objects first.
local Ending = {}
local ending

function Ending:__gc()
  if self == ending and state.pid == core.pid() and not core.exiting() then join_children() end
end

-- Raise unless `self` is a process that this process created.
local function check_own(self, method)
  if getmetatable(self) ~= Process then
    check.fail("bad argument #1 to '%s' (a process expected: write p:%s)", method, method)
  end
  if self._owner ~= core.pid() then
    Error.raise("error", "%s cannot be used here: it belongs to process %d, which created it",
      self._name, self._owner)
  end
end

-- The handle of a process that was started and not closed.
local function check_started(self, method)
  check_own(self, method)
  if self._closed then Error.raise("closed", "%s is closed", self._name) end
  if not self._handle then Error.raise("error", "%s was not started", self._name) end
  return self._handle
end

local function check_timeout(timeout, method)
  if timeout ~= nil then check.seconds(timeout, 1, "process:" .. method) end
end

local methods = {}

-- Called in a new process. Sets the name of the process, and its path as in `state`.
function process.enter(name, path)
  identity.set(name)
  state = own_state(path)
end

-- The functions that a new process calls before and after its main function. In a spawned process,
-- they use the module `process` of that process, because modules are sent by name.
local function frame(name, path)
  return function() process.enter(name, path) end, function() process.finish() end
end

function methods:start()
  check_own(self, "start")
  if self._closed then Error.raise("closed", "%s is closed", self._name) end
  if self._handle then
    Error.raise("error", "%s was started before: a process runs once", self._name)
  end
  local name, args = self._name, self._args
  local enter, leave = frame(name, self._path)
  live_children()
  core.give_pipes(self._f, table.unpack(args, 1, args.n))
  self._handle = core.process(name, core.random_seed(), leave, enter, self._f,
    table.unpack(args, 1, args.n))
  core.give_pipes()
  self._f, self._args = false, false
  table.insert(here().children, self)
  if core.is_module then ending = setmetatable({}, Ending) end
  return self
end

function methods:join(timeout)
  check_timeout(timeout, "join")
  local handle = check_started(self, "join")
  local ok, why = wait.until_done(handle, timeout)
  if ok then prune() end
  return ok, why
end

function methods:is_alive()
  check_own(self, "is_alive")
  return self._handle and self.exitcode == nil
end

function methods:terminate()
  check_started(self, "terminate"):terminate()
end

-- End the process and all its descendants with SIGKILL.
function methods:kill()
  check_started(self, "kill"):kill()
end

-- A settled future with the outcome of a process.
local function settled(returned, ...)
  local future = Future.new()
  if returned then future:_set_result(...) else future:_set_error((...)) end
  return future
end

-- Wait for the results of f and return them. Each call returns the same results.
function methods:result(timeout)
  check_timeout(timeout, "result")
  local handle = check_started(self, "result")
  if not self._future then
    local answer = {
      id = function() return handle:id() end,
      done = function() return handle:answered() end,
    }
    local ok, why = wait.until_done(answer, timeout)
    if not ok then return nil, why end
    self._future = self._future or settled(handle:result())
  end
  return self._future:await()
end

-- End the process if it is running, and drop its results. The fields pid, name and exitcode keep
-- their values.
function methods:close()
  check_own(self, "close")
  self._closed, self._f, self._args, self._future = true, false, false, false
  if self._handle then
    self._handle:close()
    wait.wake(self._handle)
    prune()
  end
end

local getters = {}

function getters:name() return self._name end
function getters:daemon() return self._daemon end

function getters:pid()
  check_own(self, "pid")
  return self._handle and self._handle:pid() or nil
end

function getters:exitcode()
  check_own(self, "exitcode")
  if not self._handle then return nil end
  if not self._handle:done() then core.poll() end
  return self._handle:exitcode()
end

local TYPES = { name = "string", daemon = "boolean" }

function Process:__index(key)
  local get = getters[key]
  if get then return get(self) end
  return methods[key]
end

-- Raise an error, because a misspelt name would otherwise have no effect.
function Process:__newindex(key, value)
  local expected = TYPES[key]
  if not expected then check.fail("cannot set '%s' of a process", tostring(key)) end
  check_own(self, key)
  if type(value) ~= expected then
    check.fail("bad value for '%s' of a process (%s expected, got %s)", key, expected,
      check.typename(value))
  end
  if self._handle or self._closed then
    Error.raise(self._closed and "closed" or "error", "cannot set '%s' of %s: it was %s", key,
      self._name, self._closed and "closed" or "started")
  end
  rawset(self, "_" .. key, value)
end

-- If an error leaves the scope, end the process without waiting for it.
function Process:__close(e)
  local _ <close> = setmetatable({}, { __close = function() methods.close(self) end })
  if e == nil and self._handle and not self._closed then methods.join(self) end
end

function Process:__tostring()
  local how = "not started"
  if self._owner ~= core.pid() then
    how = "of process " .. self._owner
  elseif self._handle then
    local code = self._handle:exitcode()
    how = ("pid %d, %s"):format(self._handle:pid(), code and "exit code " .. code or "running")
  end
  return ("%s (%s, %s)"):format(Process.__name, self._name, how)
end

function process.new(f, ...)
  check.type(f, "function", 1, "fz.process")
  made.used = true
  local own = here()
  own.count = own.count + 1
  local number = own.path .. own.count
  return setmetatable({
    _f = f, _args = table.pack(...), _owner = own.pid,
    _name = "Process-" .. number, _path = number .. ":", _daemon = false,
    _handle = false, _future = false, _closed = false,
  }, Process)
end

-- The processes that this process has started and that still run, in the order of their start.
function process.active_children()
  return { table.unpack(live_children()) }
end

function process.current()
  return identity.get()
end

---Called at the end of a script or process. Waits for all work, and for the processes that are not
---daemons.
function process.finish()
  wait.drain()
  join_children()
  local manager = package.loaded["fzlua.manager"]
  if manager then manager.close_all() end
  Future.log_unawaited()
end

return process
