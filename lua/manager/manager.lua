--- manager.lua - fz.manager: a process that keeps tables for all others.
--
-- The server is forked from its maker and ends with it, or when the manager is closed.

local core = require "fzlua.core"
local Error = require "fzlua.error"
local check = require "fzlua.check"
local client = require "fzlua.manager_client"
local proxy = require "fzlua.proxy"
local server = require "fzlua.manager_server"

local manager = {}

local LOOK <const> = 0.1 -- seconds between two looks whether the server has died

---@class fzlua.Manager
local Manager = {}
Manager.__index = Manager
Manager.__name = "fzlua.Manager"

local function check_own(self, method)
  if getmetatable(self) ~= Manager then
    check.fail("bad argument #1 to '%s' (a manager expected: write m:%s)", method, method)
  end
end

-- A root of the server.
local function make(self, class, t)
  check_own(self, class)
  if t ~= nil and not proxy.is(t) then
    check.type(t, "table", 1, "manager:" .. class)
    if getmetatable(t) ~= nil then check.type(t, "plain table", 1, "manager:" .. class) end
  end
  local _, object = self._client:ask("new", 0, class, t)
  return proxy.new(self._client, class, object)
end

---A dict in the server, with what is in `t`.
---@param t? table
---@return fzlua.DictProxy
function Manager:dict(t)
  return make(self, "dict", t)
end

---A list in the server, with what is in `t`, a sequence.
---@param t? table
---@return fzlua.ListProxy
function Manager:list(t)
  if type(t) == "table" and not proxy.is(t) then
    local n = 0
    for _ in next, t do n = n + 1 end
    if n ~= #t then check.fail "bad argument #1 to 'manager:list' (not a sequence)" end
  end
  return make(self, "list", t)
end

---A namespace in the server: attributes by name.
---@param t? table
---@return fzlua.NamespaceProxy
function Manager:namespace(t)
  return make(self, "namespace", t)
end

---The same as fz.queue: it needs no server.
function Manager:queue(maxsize)
  check_own(self, "queue")
  return core.queue(maxsize)
end

---The same as fz.lock: it needs no server.
function Manager:lock()
  check_own(self, "lock")
  return core.lock()
end

---The same as fz.value: it needs no server.
function Manager:value(code, value)
  check_own(self, "value")
  return core.value(code, value)
end

---End the server: whatever uses a proxy from now on raises kind "closed". Again: nothing.
function Manager:close()
  check_own(self, "close")
  if self._owner ~= core.pid() then
    Error.raise("error", "the manager cannot be closed here: it belongs to process %d, its maker",
      self._owner)
  end
  if self._closed then return end
  self._closed = true
  self._client:close()
  self._process:close()
end

-- A copy of it, in a process that was forked meanwhile, ends nothing.
local function finish(self)
  if self._owner == core.pid() then self:close() end
end
Manager.__gc, Manager.__close = finish, finish

function Manager:__tostring()
  return ("%s (%s)"):format(Manager.__name,
    self._closed and "closed" or "process " .. self._process:pid())
end

function Manager.__fzpack()
  Error.raise("unsendable", "a manager cannot be sent: its proxies can")
end
core.register_class("fzlua.Manager", Manager)

-- The server's number, once it is ready.
local function wait(process, channel)
  while true do
    local number = channel.answers:get(LOOK)
    if number then return number end
    core.poll()
    if process:answered() then error(select(2, process:result()), 0) end
  end
end

local function nothing() end

---Start a server.
---@return fzlua.Manager
function manager.new()
  local questions, spare = core.queue(), core.queue()
  local channel = client.first_channel()
  local process = core.process("Manager", core.random_seed(), nothing, nothing, server.run,
    questions, spare, channel)
  local of = client.of(wait(process, channel), process:pid(), questions, spare)
  local self = setmetatable({
    _client = of, _process = process, _owner = core.pid(), _closed = false,
  }, Manager)
  of:own(self, process, channel)
  return self
end

return manager
