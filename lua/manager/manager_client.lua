--- manager_client.lua - asking a manager's server, from any process of the run.
--
-- All put what they ask into the server's one queue. An answer comes through a
-- queue of this process alone; each question under way has one of those, as a
-- callback may ask while another answer is being waited for.
--
--   question  channel's id | its number | encoded: operation, object, arguments
--             number 0: the channel's queue, the first of a channel
--   answer    question's number | encoded: client.VALUES ... | client.ERROR, fields
--             | a name of a proxy's class, object

local core = require "fzlua.core"
local Error = require "fzlua.error"

local client = {
  HEADER = "<I8I8", -- what a question begins with
  NUMBER = "<I8", -- what an answer begins with
  VALUES = 0,
  ERROR = 1,
}

local HEADER_BYTES <const> = 16
local NUMBER_BYTES <const> = 8
local LOOK <const> = 0.1 -- seconds between two looks whether the server lives
local ID_SHIFT <const> = 32

local encode, decode, own_pid = core.encode, core.decode, core.pid
local pack, unpack = string.pack, string.unpack

---@class fzlua.ManagerClient
---@field server integer the server's number in the run
---@field pid integer the server's process
---@field questions table the queue that the server reads
---@field spare table a queue of reply queues whose processes have died
local Client = {}
Client.__index = Client

local clients = setmetatable({}, { __mode = "v" }) -- server -> client
local idle, owner = {}, nil -- server -> channels that nobody uses now; whose these are
local ids = 0 -- channels made by this process and those it was forked from

---A channel of this process; `answers` is its queue.
local function new_channel(answers)
  ids = ids + 1
  return { id = core.member() << ID_SHIFT | ids, answers = answers, number = 0 }
end

---The number in the run of the process a channel is of.
function client.member(id)
  return id >> ID_SHIFT
end

-- Those of this process: a forked one has none of its parent's.
local function idle_channels(server)
  if owner ~= own_pid() then
    idle, owner = {}, own_pid()
  end
  local list = idle[server]
  if not list then
    list = {}
    idle[server] = list
  end
  return list
end

---The client of that server, made where there is none.
---@return fzlua.ManagerClient
function client.of(server, pid, questions, spare)
  local self = clients[server]
  if self then return self end
  for other in pairs(idle) do
    if not core.alive(other) then idle[other] = nil end
  end
  self = setmetatable({ server = server, pid = pid, questions = questions, spare = spare }, Client)
  clients[server] = self
  return self
end

---A channel that the server knows before it is forked.
---@return table channel with `id` and `answers`
function client.first_channel()
  return new_channel(core.queue())
end

---In the maker of the server: the manager, which lives as long as any proxy does here, the
---handle of its process, and a channel.
function Client:own(manager, process, channel)
  self._manager, self._process, self._owner = manager, process, own_pid()
  idle_channels(self.server)[1] = channel
end

-- How the server ended. Its parent was told.
local function crash(self)
  local e = { kind = "crash", pid = self.pid, message = "the manager's server has died" }
  if self._owner ~= own_pid() then return e end
  core.poll()
  local _, death = true, nil
  if self._process:answered() then _, death = self._process:result() end
  if Error.is(death, "crash") then
    e.message = "the manager's server: " .. death.message
    e.signal, e.exitcode = death.signal, death.exitcode
  end
  return e
end

-- Raise what a question to a server that has ended raises. Nobody else reads its queue then.
local function fail_ended(self)
  local taken, why
  repeat taken, why = self.questions:try_get() until not taken
  local e = why ~= "closed" and crash(self)
    or { kind = "closed", message = "the manager is closed" }
  error(Error.new(e), 0)
end

local function put(self, message)
  local ok, e = pcall(self.questions.put, self.questions, message)
  if ok then return end
  if Error.is(e, "closed") then e.message = "the manager is closed" end
  error(e, 0)
end

-- A channel of this process that nobody uses now.
local function take(self)
  local list = idle_channels(self.server)
  local channel = list[#list]
  if channel then
    list[#list] = nil
    return channel
  end
  if self.server == core.member() then
    Error.raise("error", "a manager cannot be asked by a function that it runs itself")
  end
  local ok, answers = self.spare:try_get()
  channel = new_channel(ok and answers or core.queue())
  put(self, pack(client.HEADER, channel.id, 0) .. encode(channel.answers))
  return channel
end

-- Put the next question and wait for its answer. An earlier one may come that was given up.
local function exchange(self, channel, question)
  local number, answers = channel.number + 1, channel.answers
  channel.number = number
  put(self, pack(client.HEADER, channel.id, number) .. question)
  while true do
    local answer = answers:get(LOOK)
    if not answer and not core.alive(self.server) then
      local there
      there, answer = answers:try_get() -- its last act
      if not there then fail_ended(self) end
    end
    if answer and unpack(client.NUMBER, answer) == number then return answer end
  end
end

local ARGUMENTS = {
  set = { "key", "value" },
  assign = { "index", "value" },
  update = { "key", "function" },
  append = { "value" },
  insert = { "index", "value" },
  sort = { "function" },
  new = { "class", "table" },
}

-- Raise `e`, from encoding a question: it is about one of the arguments.
local function fail_encoding(operation, e)
  if Error.is(e) and math.type(e.value) == "integer" then
    local names = ARGUMENTS[operation]
    Error.about(e, names and names[e.value - 2] or "key")
    e.value = nil
  end
  error(e, 0)
end

local function results(code, ...)
  if code == client.ERROR then error(Error.new(...), 0) end
  return code, ...
end

---Ask and wait for the answer; raises what the server says went wrong.
---@param operation string
---@param object integer
---@return integer|string code client.VALUES or the class of a proxy
---@return any ... the values, or the proxy's object
function Client:ask(operation, object, ...)
  core.check_free()
  local encoded, question = pcall(encode, operation, object, ...)
  if not encoded then fail_encoding(operation, question) end
  local channel = take(self)
  local ok, answer = pcall(exchange, self, channel, question)
  local list = idle_channels(self.server)
  list[#list + 1] = channel
  if not ok then error(answer, 0) end
  return results(decode(answer, NUMBER_BYTES))
end

---The parts of a question: channel's id, number, place of the encoded rest.
function client.parts(question)
  local id, number = unpack(client.HEADER, question)
  return id, number, HEADER_BYTES
end

---The manager has ended; questions are refused.
function Client:close()
  self.questions:close()
  idle[self.server] = nil
end

return client
