--- manager_server.lua - the process that holds a manager's tables and answers requests.
--
-- The tables are plain Lua tables and may contain each other. Each table that has a proxy has a
-- number. A table is kept as long as it is a root or can be reached from a root.

local core = require "fzlua.core"
local Error = require "fzlua.error"
local client = require "fzlua.manager_client"
local proxy = require "fzlua.proxy"

local VALUES <const>, ERROR <const> = client.VALUES, client.ERROR
local CHANNELS_CHECKED_FROM <const> = 64

local server = {}

local own -- the client object for this server; used for proxies that the server sends
local questions
local channels, nchannels, check_at = {}, 0, CHANNELS_CHECKED_FROM -- id -> queue of answers

local last = 0
local roots = {} -- number -> table that a user created
local objects = setmetatable({}, { __mode = "v" }) -- number -> table
local numbers = setmetatable({}, { __mode = "k" }) -- table -> number
local made_as = setmetatable({}, { __mode = "k" }) -- table -> class that it was created as
local lists = setmetatable({}, { __mode = "k" }) -- table -> true: it was found to be a sequence

local function number_of(t)
  local number = numbers[t]
  if not number then
    last = last + 1
    number = last
    numbers[t], objects[number] = number, t
  end
  return number
end

local function count(t)
  local n = 0
  for _ in next, t do n = n + 1 end
  return n
end

local function shallow_copy(t)
  local copy = {}
  for key, value in next, t do copy[key] = value end
  return copy
end

-- A list that has become empty is still a list.
local function class_of(t)
  local class = made_as[t]
  if class then return class end
  if t[1] == nil then return lists[t] and next(t) == nil and "list" or "dict" end
  if not lists[t] then
    if count(t) ~= #t then return "dict" end
    lists[t] = true
  end
  return "list"
end

-- Whether a value is a plain table. Objects with a class are sent as values, without a proxy.
local function is_table(value)
  return type(value) == "table" and getmetatable(value) == nil
end

local function answer_with(value)
  if is_table(value) then return class_of(value), number_of(value) end
  return VALUES, value
end

-- Answer with a value that is removed from its table: a table is copied unless it is a root.
local function answer_with_copy(value)
  if is_table(value) and roots[numbers[value]] then return answer_with(value) end
  return VALUES, value
end

local function as_element(value)
  if is_table(value) then return proxy.new(own, class_of(value), number_of(value)) end
  return value
end

-- Raise an error without a traceback, because no function of the user has failed.
local refuse = Error.raise

local function check_index(t, index, most)
  if index < 1 or index > most then
    refuse("error", "index %d is outside of a list of %d", index, #t)
  end
end

-- Store a value. A list becomes a dict if the key is outside of the sequence, or at a hole.
local function store(t, key, value)
  if lists[t] and not (math.type(key) == "integer" and key >= 1 and key <= #t + 1
      and (value ~= nil or key >= #t)) then
    lists[t] = nil
  end
  t[key] = value
end

local asker = 0 -- member number of the process whose question is being answered
local in_function = false -- whether a function of the user runs for the question

-- Call a function of the user. If the asking process dies, the call is ended by an error, so that
-- other clients do not wait longer.
local function guarded(f, ...)
  return core.work_for(asker, f, ...)
end

local function call(f, ...)
  in_function = true
  local value = guarded(f, ...)
  in_function = false
  return value
end

-- Guard the calls of __fzpack and __fzunpack, because they are functions of the user, too.
local function guard_class(metatable)
  for _, event in ipairs { "__fzpack", "__fzunpack" } do
    local f = rawget(metatable, event)
    if f then rawset(metatable, event, function(...) return guarded(f, ...) end) end
  end
end

local function guard_classes()
  for name, metatable in pairs(core.classes()) do
    if name:sub(1, 6) ~= "fzlua." and name:sub(1, 3) ~= "fz." then guard_class(metatable) end
  end
end

local operations = {}

function operations.new(_, class, t)
  t = t or {}
  if numbers[t] then -- `t` is a table that has a proxy
    if class == "list" and count(t) ~= #t then
      refuse("error", "manager:list: the table of the proxy is not a sequence")
    end
    t = shallow_copy(t)
  end
  local number = number_of(t)
  roots[number], made_as[t] = t, class
  return class, number
end

function operations.get(t, key) return answer_with(t[key]) end

function operations.set(t, key, value)
  store(t, key, value)
  return VALUES
end

function operations.assign(t, index, value)
  local n = #t
  check_index(t, index, value == nil and n or n + 1)
  if value == nil and index < n then
    refuse("error", "nil at index %d would leave a hole in a list of %d: use remove", index, n)
  end
  t[index] = value
  return VALUES
end

function operations.count(t) return VALUES, count(t) end

function operations.length(t) return VALUES, #t end

function operations.all(t)
  local all, n = {}, 0
  if class_of(t) == "list" then
    for i = 1, #t do all[2 * i - 1], all[2 * i] = i, as_element(t[i]) end
    return VALUES, all
  end
  for key, value in next, t do
    all[n + 1], all[n + 2] = as_element(key), as_element(value)
    n = n + 2
  end
  return VALUES, all
end

function operations.copy(t) return VALUES, t end

-- Encode the value before it is stored: if it cannot be sent, the table stays unchanged.
function operations.update(t, key, f)
  local before = t[key]
  local value = call(f, before)
  if not rawequal(value, before) then core.encode(value) end
  if is_table(value) then lists[value] = nil end
  store(t, key, value)
  return answer_with(value)
end

function operations.incr(t, key, n)
  local before = t[key]
  if before == nil then
    before = 0
  elseif type(before) ~= "number" then
    refuse("error", "incr needs a number, but the value is a %s", type(before))
  end
  local value = before + (n or 1)
  store(t, key, value)
  return VALUES, value
end

function operations.append(t, value)
  t[#t + 1] = value
  return VALUES
end

function operations.insert(t, index, value)
  check_index(t, index, #t + 1)
  table.insert(t, index, value)
  return VALUES
end

function operations.remove(t, index)
  check_index(t, index, #t)
  return answer_with_copy(table.remove(t, index))
end

function operations.pop(t)
  return answer_with_copy(table.remove(t))
end

-- Sort a copy, so that the list is unchanged if the comparison raises.
function operations.sort(t, less)
  local n = #t
  local sorted = table.move(t, 1, n, 1, {})
  call(table.sort, sorted, less)
  table.move(sorted, 1, n, 1, t)
  return VALUES
end

local function perform(question, at)
  local operation, object, a, b = core.decode(question, at)
  local t = objects[object]
  if not t and operation ~= "new" then
    refuse("closed",
      "the table of this proxy no longer exists: nothing in the manager refers to it")
  end
  return core.encode(operations[operation](t, a, b))
end

-- The fields of an error for the client. A refusal by the server itself has no traceback.
local function describe(e)
  if not in_function and Error.is(e) then
    if math.type(e.value) == "integer" then Error.about(e, "result") end
    return { kind = e.kind, message = e.message, cause = e.cause }
  end
  in_function = false
  local _, text = pcall(guarded, core.error_text, e)
  return {
    kind = "error", message = text,
    traceback = core.traceback(nil, 2), cause = e, pid = own.pid,
  }
end

-- `fields` is a text if there was no memory, or no stack, to describe the error. The cause is a
-- separate message, so that the client gets the rest even if it cannot decode the cause.
local function encode_error(fields)
  if type(fields) == "string" then
    in_function = false
    fields = { kind = fields == "not enough memory" and "memory" or "error", message = fields }
  end
  local ok, cause = pcall(core.encode, fields.cause)
  fields.cause = ok and cause or nil
  return core.encode(ERROR, fields)
end

-- Drop the channels of dead clients. Their queues can then be reused.
local function drop_dead_channels()
  nchannels = 0
  for id, answers in pairs(channels) do
    if core.alive(client.member(id)) then
      nchannels = nchannels + 1
    else
      channels[id] = nil
      repeat until not answers:try_get()
      own.spare:put(answers)
    end
  end
  check_at = math.max(CHANNELS_CHECKED_FROM, 2 * nchannels)
end

local function add_channel(id, answers)
  channels[id] = answers
  nchannels = nchannels + 1
  if nchannels >= check_at then drop_dead_channels() end
end

local function serve(question)
  local id, number, at = client.parts(question)
  if number == 0 then return add_channel(id, core.decode(question, at)) end
  local answers = channels[id]
  if not answers then return end -- the asking process has died
  asker = client.member(id)
  local ok, answer = xpcall(perform, describe, question, at)
  if not ok then answer = encode_error(answer) end
  answers:put(string.pack(client.NUMBER, number) .. answer)
end

---The main function of the server. Answers questions until their queue is closed.
---@param channel table of the creator of the manager, which is notified when the server is ready
function server.run(asked, spare, channel)
  questions = asked
  own = client.of(core.member(), core.pid(), questions, spare)
  proxy.serve(function(object) return objects[object] end)
  guard_classes()
  add_channel(channel.id, channel.answers)
  channel.answers:put(own.server)
  local undone = 0 -- number of answered questions without task_done()
  while true do
    local question = questions:get()
    if not question then return end
    serve(question)
    undone = undone + 1
    if core.is_idle() then
      for _ = 1, undone do questions:task_done() end
      undone = 0
    end
  end
end

return server
