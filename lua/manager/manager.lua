--- manager.lua - fz.manager: a process that holds tables for all other processes.
--
-- The process that creates the manager starts the server. The server ends when the manager is
-- closed, or when that process ends.

local core = require "fzlua.core"
local Error = require "fzlua.error"
local check = require "fzlua.check"
local client = require "fzlua.manager_client"
local deadlock = require "fzlua.deadlock"
local proxy = require "fzlua.proxy"
local wait = require "fzlua.wait"

require "fzlua.process" -- required because the finish() of this module closes the managers

local manager = {}

local CHECK_INTERVAL <const> = 0.1 -- seconds between two checks that the server is alive
local LEAVE <const> = 1 -- seconds after which a closed server that has not ended is killed

-- Set of the managers that this process has created and has not closed.
local open = setmetatable({}, { __mode = "k" })

local Manager = {}
Manager.__index = Manager
Manager.__name = "fzlua.Manager"

local function check_own(self, method)
  if getmetatable(self) ~= Manager then
    check.fail("bad argument #1 to '%s' (a manager expected: write m:%s)", method, method)
  end
end

-- Create a root table in the server; returns its proxy.
local function make(self, class, t)
  check_own(self, class)
  if t ~= nil and not proxy.is(t) then
    check.type(t, "table", 1, "manager:" .. class)
    if getmetatable(t) ~= nil then check.type(t, "plain table", 1, "manager:" .. class) end
  end
  local _, object = self._client:ask("new", 0, class, t)
  return proxy.new(self._client, class, object)
end

-- Call a C function. If it raises an error about a wrong argument, the message gets the user's line
-- and the name of the method.
local function at_caller(f, ...)
  local ok, result = pcall(f, ...)
  if ok then return result end
  if type(result) ~= "string" then error(result, 0) end
  check.fail("%s", (result:gsub("'[%w_.]-([%w_]+)'", "'manager:%1'", 1)))
end

-- Create a dict in the server, with the contents of `t`.
function Manager:dict(t)
  return make(self, "dict", t)
end

-- Create a list in the server, with the elements of the sequence `t`.
function Manager:list(t)
  if type(t) == "table" and not proxy.is(t) then
    local n = 0
    for _ in next, t do n = n + 1 end
    if n ~= #t then check.fail "bad argument #1 to 'manager:list' (not a sequence)" end
  end
  return make(self, "list", t)
end

-- Create a namespace in the server.
function Manager:namespace(t)
  return make(self, "namespace", t)
end

-- Same as fz.queue: the server is not involved.
function Manager:queue(maxsize)
  check_own(self, "queue")
  return at_caller(core.queue, maxsize)
end

-- Same as fz.lock: the server is not involved.
function Manager:lock()
  check_own(self, "lock")
  return core.lock()
end

-- Same as fz.value: the server is not involved.
function Manager:value(code, value)
  check_own(self, "value")
  return at_caller(core.value, code, value)
end

local function finish(self)
  self._closed, open[self] = true, nil
  self._client:close()
  self._process:close()
end

-- End the server. The server first flushes the files that the user's functions have left open.
function Manager:close()
  check_own(self, "close")
  if self._owner ~= core.pid() then
    Error.raise("error",
      "the manager cannot be closed here: it belongs to process %d, which created it", self._owner)
  end
  if self._closed then return end
  local _ <close> = setmetatable({}, { __close = function() finish(self) end })
  self._closed = true
  self._client:close()
  wait.until_done(self._process, LEAVE)
end

-- Close the manager. In a forked process this does nothing, because the manager is a copy.
function Manager:__close()
  if self._owner == core.pid() then self:close() end
end

function Manager:__gc()
  if self._owner == core.pid() and not self._closed then finish(self) end
end

function Manager:__tostring()
  return ("%s (%s)"):format(Manager.__name,
    self._closed and "closed" or "process " .. self._process:pid())
end

function Manager.__fzpack()
  Error.raise("unsendable", "a manager cannot be sent, but its proxies can")
end
core.register_class("fzlua.Manager", Manager)

-- Wait until the server is ready; returns its member number.
local function wait_for_server(process, channel)
  while true do
    local number = channel.answers:get(CHECK_INTERVAL)
    if number then return number end
    core.poll()
    if process:answered() then error(select(2, process:result()), 0) end
  end
end

local function nothing() end

-- The main function of the server. require() gets the server's own copy of run(). If run() itself
-- was sent to a spawned server, it would come with copies of the tables of its module.
local function serve(...)
  require("fzlua.manager_server").run(...)
end

-- Start a server.
function manager.new()
  local questions, spare = core.queue(), core.queue()
  local channel = client.first_channel()
  local process = core.process("Manager", core.random_seed(), nothing, nothing, serve,
    questions, spare, channel)
  local of = client.of(wait_for_server(process, channel), process:pid(), questions, spare)
  local self = setmetatable({
    _client = of, _process = process, _owner = core.pid(), _closed = false,
  }, Manager)
  of:own(self, process, channel)
  process:serve()
  deadlock.add_server(of)
  open[self] = true
  return self
end

-- Close all managers, at the end of a script or process.
function manager.close_all()
  for self in pairs(open) do
    if self._owner == core.pid() then self:close() end
  end
end

return manager
