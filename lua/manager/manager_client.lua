--- manager_client.lua - sends requests to a manager's server, from any process of the run.
--
-- All processes put their questions into the server's queue. Answers come through a channel, which
-- is a queue of this process only. Each pending question has a channel of its own, because a
-- callback may ask a second question while the process waits for the first answer.
--
--   question  channel's id | question's number | encoded: operation, object, arguments
--             number 0: the channel's queue, sent once per channel
--   answer    question's number | encoded: client.VALUES ... | client.ERROR, fields
--             | the name of a proxy's class, object

local core = require "fzlua.core"
local Error = require "fzlua.error"

local client = {
  HEADER = "<I8I8", -- format of the start of a question
  NUMBER = "<I8", -- format of the start of an answer
  VALUES = 0,
  ERROR = 1,
}

local HEADER_BYTES <const> = 16
local NUMBER_BYTES <const> = 8
local CHECK_INTERVAL <const> = 0.1 -- seconds between two checks that the server is alive
local ID_SHIFT <const> = 32

local encode, decode, own_pid = core.encode, core.decode, core.pid
local pack, unpack = string.pack, string.unpack

---@class fzlua.ManagerClient
---@field server integer the server's member number in the run
---@field pid integer pid of the server
---@field questions table the queue that the server reads
---@field spare table a queue of answer queues whose processes have died, to be reused
local Client = {}
Client.__index = Client

local clients = setmetatable({}, { __mode = "v" }) -- server -> client
local idle, owner = {}, nil -- server -> its idle channels; pid of the process that owns them
local ids = 0 -- number of channels made by this process and its ancestors

---Make a channel of this process. `answers` is the queue of the channel.
local function new_channel(answers)
  ids = ids + 1
  return { id = core.member() << ID_SHIFT | ids, answers = answers, number = 0 }
end

---The member number of the process that owns a channel.
function client.member(id)
  return id >> ID_SHIFT
end

-- The idle channels of this process. The channels of its parent do not belong to a forked process.
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

---The client for a server. The client is made at the first use.
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

---Make a channel before the server starts, so that the server inherits it.
---@return table channel with `id` and `answers`
function client.first_channel()
  return new_channel(core.queue())
end

---Note that this process has created the manager. The client keeps the manager alive as long as
---this process has a proxy, keeps the handle of the server's process, and uses the first channel.
function Client:own(manager, process, channel)
  self._manager, self._process, self._owner = manager, process, own_pid()
  idle_channels(self.server)[1] = channel
end

-- The error for a server that has died. Only the parent of the server knows the cause.
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

-- Raise the error for a server that has ended. First empty the queue of questions, because no
-- process reads it any more.
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

-- Take an idle channel, or make a new one.
local function acquire_channel(self)
  local list = idle_channels(self.server)
  local channel = list[#list]
  if channel then
    list[#list] = nil
    return channel
  end
  if self.server == core.member() then
    Error.raise("error", "a function that runs in a manager cannot call that manager")
  end
  local ok, answers = self.spare:try_get()
  channel = new_channel(ok and answers or core.queue())
  put(self, pack(client.HEADER, channel.id, 0) .. encode(channel.answers))
  return channel
end

-- Send the next question and wait for its answer. Answers to earlier questions, left over after a
-- timeout or an error, are skipped.
local function exchange(self, channel, question)
  local number, answers = channel.number + 1, channel.answers
  channel.number = number
  put(self, pack(client.HEADER, channel.id, number) .. question)
  while true do
    local answer = answers:get(CHECK_INTERVAL)
    if not answer and not core.alive(self.server) then
      local there
      there, answer = answers:try_get() -- the answer may have been sent before the server died
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

-- Raise `e` with the name of the argument that could not be encoded.
local function fail_encoding(operation, e)
  if Error.is(e) and math.type(e.value) == "integer" then
    local names = ARGUMENTS[operation]
    Error.about(e, names and names[e.value - 2] or "key")
    e.value = nil
  end
  error(e, 0)
end

local function raise(fields)
  local ok, cause = pcall(decode, fields.cause)
  if not ok then cause = nil end -- no cause, or its class is not known in this process
  fields.cause = cause
  error(Error.new(fields), 0)
end

local function results(code, ...)
  if code == client.ERROR then raise(...) end
  return code, ...
end

---Send a request and wait for the answer; raises the server's error.
---@param operation string
---@param object integer
---@return integer|string code client.VALUES or the class of a proxy
---@return any ... the values, or the proxy's object
function Client:ask(operation, object, ...)
  core.check_free()
  local encoded, question = pcall(encode, operation, object, ...)
  if not encoded then fail_encoding(operation, question) end
  local channel = acquire_channel(self)
  local ok, answer = pcall(exchange, self, channel, question)
  local list = idle_channels(self.server)
  list[#list + 1] = channel
  if not ok then error(answer, 0) end
  return results(decode(answer, NUMBER_BYTES))
end

---Whether the server is idle and has answered all questions. Called by deadlock.lua in the process
---that created the manager.
function Client:rests()
  return self._closed or self.questions:join(0) == true
end

---The parts of a question: the channel's id, the number, the offset of the encoded rest.
function client.parts(question)
  local id, number = unpack(client.HEADER, question)
  return id, number, HEADER_BYTES
end

---Close the manager. After this the server accepts no questions.
function Client:close()
  self.questions:close()
  self._closed = true
  idle[self.server] = nil
end

return client
