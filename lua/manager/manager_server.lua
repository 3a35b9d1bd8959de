--- manager_server.lua - the process that keeps a manager's tables and answers for them.
--
-- The tables are plain ones in each other. One that a proxy stands for has a number;
-- it is kept for as long as it is a root, or somewhere below one.

local core = require "fzlua.core"
local Error = require "fzlua.error"
local client = require "fzlua.manager_client"
local proxy = require "fzlua.proxy"

local VALUES <const>, ERROR <const> = client.VALUES, client.ERROR
local SWEEP_LEAST <const> = 64

local server = {}

local own -- the client of this server, for proxies that it sends
local questions
local channels, nchannels, sweep_at = {}, 0, SWEEP_LEAST -- id -> queue of answers

-- ---- tables ------------------------------------------------------------------------------

local last = 0
local roots = {} -- those that users have made
local objects = setmetatable({}, { __mode = "v" }) -- number -> table
local numbers = setmetatable({}, { __mode = "k" }) -- table -> number
local made_as = setmetatable({}, { __mode = "k" }) -- table -> class it was made as
local lists = setmetatable({}, { __mode = "k" }) -- table -> true: it was seen to be a sequence

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

-- A list stays one when it is emptied.
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

-- Objects with a class of their own are values.
local function is_table(value)
  return type(value) == "table" and getmetatable(value) == nil
end

-- ---- answers -------------------------------------------------------------------------------

local function answer_with(value)
  if is_table(value) then return class_of(value), number_of(value) end
  return VALUES, value
end

-- For what leaves the tables.
local function answer_with_copy(value)
  if is_table(value) and roots[numbers[value]] then return answer_with(value) end
  return VALUES, value
end

local function as_element(value)
  if is_table(value) then return proxy.new(own, class_of(value), number_of(value)) end
  return value
end

-- ---- requests --------------------------------------------------------------------------------

-- A wrong request, and not a function that has failed: it has no traceback.
local refuse = Error.raise

local function check_place(t, index, most)
  if index < 1 or index > most then
    refuse("error", "index %d is outside of a list of %d", index, #t)
  end
end

-- A key beside the sequence, or a hole, makes a dict of a list.
local function store(t, key, value)
  if lists[t] and not (math.type(key) == "integer" and key >= 1 and key <= #t + 1
      and (value ~= nil or key >= #t)) then
    lists[t] = nil
  end
  t[key] = value
end

-- ---- functions of users -----------------------------------------------------------------------

local asker = 0 -- the member whose question is answered
local in_function = false -- one that a question brought with it

-- Call what a user has written: when the process that asked has died, an error ends f, so that
-- no call runs on while all other clients wait.
local function guarded(f, ...)
  return core.work_for(asker, f, ...)
end

local function call(f, ...)
  in_function = true
  local value = guarded(f, ...)
  in_function = false
  return value
end

-- What packs and unpacks the objects of a class is a user's, too.
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

-- ---- operations ------------------------------------------------------------------------------

local operations = {}

function operations.new(_, class, t)
  t = t or {}
  if numbers[t] then -- a proxy's
    if class == "list" and count(t) ~= #t then refuse("error", "a list of what is no sequence") end
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
  check_place(t, index, value == nil and n or n + 1)
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

-- What cannot be sent is found out before it is stored.
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
    refuse("error", "incr of what is not a number: a %s", type(before))
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
  check_place(t, index, #t + 1)
  table.insert(t, index, value)
  return VALUES
end

function operations.remove(t, index)
  check_place(t, index, #t)
  return answer_with_copy(table.remove(t, index))
end

function operations.pop(t)
  return answer_with_copy(table.remove(t))
end

-- A comparison that fails leaves all as it was.
function operations.sort(t, less)
  local n = #t
  local sorted = table.move(t, 1, n, 1, {})
  call(table.sort, sorted, less)
  table.move(sorted, 1, n, 1, t)
  return VALUES
end

-- ---- questions ---------------------------------------------------------------------------------

local function perform(question, at)
  local operation, object, a, b = core.decode(question, at)
  local t = objects[object]
  if not t and operation ~= "new" then
    refuse("closed", "what the proxy stood for is gone: nothing in the manager holds it")
  end
  return core.encode(operations[operation](t, a, b))
end

-- What is raised, as the fields of an Error. Outside of functions an Error says all itself.
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

-- `fields` is a text where there was no memory to describe anything, or no stack.
local function encode_error(fields)
  if type(fields) == "string" then
    in_function = false
    fields = { kind = fields == "not enough memory" and "memory" or "error", message = fields }
  end
  local ok, answer = pcall(core.encode, ERROR, fields)
  if ok then return answer end
  fields.cause = nil
  return core.encode(ERROR, fields)
end

-- Queues of clients that have died are for others.
local function sweep()
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
  sweep_at = math.max(SWEEP_LEAST, 2 * nchannels)
end

local function add_channel(id, answers)
  channels[id] = answers
  nchannels = nchannels + 1
  if nchannels >= sweep_at then sweep() end
end

local function serve(question)
  local id, number, at = client.parts(question)
  if number == 0 then return add_channel(id, core.decode(question, at)) end
  local answers = channels[id]
  if not answers then return end -- its process has died
  asker = client.member(id)
  local ok, answer = xpcall(perform, describe, question, at)
  if not ok then answer = encode_error(answer) end
  answers:put(string.pack(client.NUMBER, number) .. answer)
end

---The life of the server: it answers until the queue of questions is closed.
---@param channel table the owner's, which is told when all is ready
function server.run(asked, spare, channel)
  questions = asked
  own = client.of(core.member(), core.pid(), questions, spare)
  proxy.serve(function(object) return objects[object] end)
  guard_classes()
  add_channel(channel.id, channel.answers)
  channel.answers:put(own.server)
  while true do
    local question = questions:get()
    if not question then return end
    serve(question)
  end
end

return server
