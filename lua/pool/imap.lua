--- imap.lua - a lazy map: results while the source is still being read.
--
-- Numbers, strings and booleans wait in a list, and are encoded many at once when a
-- worker has room. A table may change before that, so that it is encoded when it is read.
--
-- A result that is ready is handed out before the source is asked again. The room says
-- how many items may have been read and not yet handed out.

local Error = require "fzlua.error"
local Mapping = require "fzlua.mapping"
local check = require "fzlua.check"
local core = require "fzlua.core"
local wait = require "fzlua.wait"

---@class fzlua.Imap
local Imap = {}
Imap.__index = Imap
Imap.__name = "fzlua.Imap"
Imap.__fzpack = false -- cannot be sent

-- Bounds of a room that sizes itself: items, bytes, and seconds of work for each worker.
local ROOM_MAX <const>, BYTES_MAX <const>, WORK <const> = 1024, 8 << 20, 0.005
-- Smaller strings are not counted: ROOM_MAX of them are no more than 1 MiB.
local SMALL <const> = 1024
-- A source that takes longer, in seconds, is slow: what it gave is sent, and results are
-- looked for, before it is asked again. They are waited for a fraction of its time.
local SLOW <const>, PATIENCE <const> = 50e-6, 1 / 16

local PLAIN <const> = { number = true, string = true, boolean = true }

local NOTHING <const> = {} -- an element of a list that is nil

-- The elements of a list, one a call; nil at its end.
local function list_reader(list)
  local n, i = Mapping.length(list), 0
  return function()
    if i >= n then return nil end
    i = i + 1
    local item = list[i]
    if item == nil then return NOTHING end
    return item
  end
end

-- The same of an iterator. One with a state or a control value is called as a loop calls
-- it, and an item is the list of all its values.
local function iterator_reader(source, state, control)
  if state == nil and control == nil then return source end
  return function()
    local values = table.pack(source(state, control))
    control = values[1]
    if control == nil then return nil end
    return values
  end
end

local function is_callable(source)
  return type(source) == "function" or (getmetatable(source) or {}).__call ~= nil
end

-- How many items may be out now.
local function room(self)
  if self._inflight then return self._inflight end
  return self._bytes < BYTES_MAX and self._room or 0
end

-- The consumer had to wait: let more items be out, up to some milliseconds of work.
local function widen(self)
  local mean = self._batch:mean()
  local most = mean > 0 and WORK * self._workers / mean or ROOM_MAX
  self._room = math.max(self._room, math.min(2 * self._room, most // 1 | 0, ROOM_MAX))
end

-- Have the items that were put into the list sent.
local function send(self)
  if self._listed > 0 then self._batch:grow(self._listed) end
  self._listed = 0
  self._batch:start()
end

local function weigh(self, number, bytes)
  self._odd = true
  self._weight[number] = (self._weight[number] or 0) + bytes
  self._bytes = self._bytes + bytes
end

-- An item that is no plain value. Returns its number, or that of its error.
local function add(self, item)
  if self._listed > 0 then self._batch:grow(self._listed) end
  self._listed = 0
  local ok, bytes = pcall(self._batch.add, self._batch, item)
  if ok then
    self._sent = self._sent + 1
    if bytes > SMALL then weigh(self, self._sent, bytes) end
    return self._sent
  end
  if Error.is(bytes, "interrupted") then error(bytes, 0) end
  local number = -self._count -- the batch has none for it
  self._errors[number] = bytes
  self._odd = true
  return number
end

-- A result, or an error, is here: it can be handed out when its turn comes.
local function arrive(self, number)
  self._items[number] = nil
  if self._ordered then
    self._came[self._place[number] or number] = number
  else
    self._last = self._last + 1
    self._came[self._last] = number
  end
end

local function set_place(self, number)
  self._place[number] = self._count
  self._odd = true
end

-- The source is read to its end.
local function finish_source(self)
  self._ended = true
  send(self)
  self._batch:finish()
end

-- Take what the source gave, no plain value like the ones before it; false at its end.
local function take_odd(self, item)
  if self._closed or self._ended then return false end -- by the source itself
  if item == nil then
    finish_source(self)
    return false
  end
  if item == NOTHING then item = nil end
  self._count = self._count + 1
  local number
  local kind = type(item)
  if PLAIN[kind] then
    number = self._sent + 1
    self._sent, self._listed, self._items[number] = number, self._listed + 1, item
    if kind == "string" and #item > SMALL then weigh(self, number, #item) end
  else
    number = add(self, item)
  end
  if number ~= self._count then set_place(self, number) end
  if number < 0 then arrive(self, number) end
  return true
end

local function is_ready(self)
  return self._came[self._handed + 1] ~= nil
end

-- Read the source while there is room and no result is ready. Most items are short
-- plain values: for them this loop does as little as it can.
local function fill(self)
  local limit, now = room(self), core.now
  local source, items, came, before = self._next, self._items, self._came, now()
  if self._count - self._handed > limit - limit // 4 and limit >= 64 then return end
  while not self._ended and self._count - self._handed < limit do
    local item = source()
    local number = self._sent + 1
    local kind = type(item)
    if (kind == "string" and #item <= SMALL or kind == "number") and number == self._count + 1
        and not (self._closed or self._ended) then
      self._count, self._sent, self._listed = number, number, self._listed + 1
      items[number] = item
    elseif not take_odd(self, item) then
      break
    end
    local after = now()
    if after - before > SLOW then
      send(self)
      wait.until_done(self, (after - before) * PATIENCE)
      after = now()
    end
    if came[self._handed + 1] ~= nil or self._closed then break end
    before = after
    if not self._inflight and self._bytes >= BYTES_MAX then break end
  end
  if not self._closed then send(self) end
end

---Take what has come; called by wait.lua.
function Imap:pump()
  if self._closed then return end
  local order, values = self._order, self._values
  local n = self._batch:take(values, self._errors, order)
  if next(self._errors) then self._odd = true end
  local simple = self._ordered and not self._odd
  local items, came = self._items, self._came
  for i = 1, n do
    local number = order[i]
    order[i] = nil
    local value = values[number]
    if type(value) == "string" and #value > SMALL then weigh(self, number, #value) end
    if simple then
      items[number], came[number] = nil, number
    else
      arrive(self, number)
    end
  end
end

---Whether something can be handed out, or nothing will come; called by wait.lua.
function Imap:done()
  return is_ready(self) or self._closed or self._batch:done()
end

-- The source is exhausted: end, or raise why the batch as a whole failed.
local function finish(self)
  local whole = not self._closed and (self._batch:whole() or self._cut)
  self:close()
  if whole then error(whole, 0) end
  return nil
end

-- What is rare about the next result, which is ready: its error, place and weight.
local function hand_out_odd(self, number, value)
  local place, e, weight = self._place[number] or number, self._errors[number], self._weight[number]
  if weight then
    self._weight[number] = nil
    self._bytes = self._bytes - weight
  end
  if place ~= number then self._place[number] = nil end
  if e ~= nil then
    self._errors[number] = nil
    e = Mapping.name_error(e, place)
    if self._options.on_error ~= "continue" then
      self:close()
      error(e, 0)
    end
  end
  return place, value, e
end

-- Place, value and error of the next result, which is ready.
local function hand_out(self, number)
  local handed, values = self._handed + 1, self._values
  local value = values[number]
  self._handed, self._came[handed], values[number] = handed, nil, nil
  if self._odd then return hand_out_odd(self, number, value) end
  return number, value
end

local function step(self)
  if self._closed then return nil end
  if not is_ready(self) then
    self:pump()
    if not is_ready(self) then
      fill(self)
      if not self._inflight and not is_ready(self) then widen(self) end
      wait.until_done(self)
    end
    if not is_ready(self) then return finish(self) end
  end
  return hand_out(self, self._came[self._handed + 1])
end

---Read the source no further, because the pool is joined: join() cannot wait for the
---reader, which may be its own caller. What was read goes on and can be taken.
function Imap:stop_reading()
  if self._closed or self._ended then return end
  self._ended = true
  self._cut = Error.new {
    kind = "closed", message = "the pool was joined before the source was read to its end",
  }
  send(self)
  self._batch:finish()
end

---End what runs.
function Imap:close()
  if self._closed then return end
  self._closed = true
  self._batch:close()
  local _ <close> = self._closing -- the iterator's
end

Imap.__close = Imap.close

---@param pool fzlua.Pool kept alive
---@param core_pool userdata
---@param f function
---@param source table what Imap.source() returned
---@param ordered boolean
---@param options table checked, with all defaults; workers: how many the pool has
function Imap.new(pool, core_pool, f, source, ordered, options)
  local items = {}
  local batch = core.batch(core_pool, f, items, {
    kind = source.kind, growing = true, on_error = "continue", seed = options.seed,
    timeout = options.timeout, retries = options.retries, backoff = options.backoff,
    memory = options.memory,
  })
  local self = setmetatable({
    _pool = pool, _batch = batch, _next = source.next, _closing = source.closing,
    _ordered = ordered, _options = options, _inflight = options.inflight,
    _workers = options.workers, _room = 2 * options.workers,
    _items = items, -- by number in the batch, until they have ended
    _values = {}, _errors = {}, _weight = {}, -- by number, until they are handed out
    _place = {}, -- number -> place in the source, where they differ
    _order = {}, -- numbers of what came; empty outside of pump()
    _came = {}, -- place, or the order of coming -> number
    _odd = false, -- there have been errors, weights, or places that differ
    _count = 0, _sent = 0, _listed = 0, _handed = 0, _last = 0, _bytes = 0,
    _ended = false, _closed = false,
    _cut = nil, -- what to raise where the source was not read to its end
  }, Imap)
  pool._imaps[self] = true
  local came, values = self._came, self._values
  return function()
    local handed = self._handed + 1
    local number = came[handed]
    if number and not (self._odd or self._closed) then -- the same as step(), in short
      local value = values[number]
      self._handed, came[handed], values[number] = handed, nil, nil
      return number, value
    end
    return step(self)
  end, nil, nil, self
end

---Check the source: a list, or an iterator with the further values of a loop's.
---@param what string the call
---@return table next =, kind =, closing =
function Imap.source(what, source, state, control, closing)
  if is_callable(source) then
    local plain = state == nil and control == nil
    return {
      next = iterator_reader(source, state, control), closing = closing,
      kind = plain and "map" or "starmap",
    }
  end
  if type(source) ~= "table" then
    check.fail("bad argument #2 to '%s' (a list or an iterator expected, got %s)", what,
      source == nil and "no value" or check.typename(source))
  end
  return { next = list_reader(source), kind = "map" }
end

return Imap
