--- imap.lua - a lazy map: results are returned while the source is still being read.
--
-- Numbers, strings and booleans wait in a list, and many are encoded at once when a worker is free.
-- A table may change before that, so that it is encoded when it is read.
--
-- A ready result is returned before the source is read again. The window is the number of items
-- that may be read and not yet returned.

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

-- Limits of a window that sizes itself: items, bytes, and seconds of work for each worker.
local WINDOW_MAX <const>, BYTES_MAX <const>, WORK <const> = 1024, 8 << 20, 0.005
-- Bytes of strings that are not counted: WINDOW_MAX of them are 1 MiB at most.
local SHORT <const> = 1024
-- A source whose call takes more seconds than SLOW is slow: its items are sent, and results are
-- polled, before the next call. The poll takes this part of the call's time.
local SLOW <const>, POLL_SHARE <const> = 50e-6, 1 / 16

local PLAIN <const> = { number = true, string = true, boolean = true }

local NOTHING <const> = {} -- stands for a nil element of a list

-- A function that returns the next element of a list; nil at its end.
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

-- The same for an iterator. One with a state or a control value is called as a for loop calls it,
-- and an item is the list of all its values.
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

-- The present size of the window.
local function window_size(self)
  if self._inflight then return self._inflight end
  return self._bytes < BYTES_MAX and self._window or 0
end

-- Widen the window, because the consumer had to wait, up to WORK seconds of work per worker.
local function widen(self)
  local mean = self._batch:mean()
  local most = mean > 0 and WORK * self._workers / mean or WINDOW_MAX
  self._window = math.max(self._window, math.min(2 * self._window, most // 1 | 0, WINDOW_MAX))
end

-- Send the items in the list.
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

-- Add an item that is not a plain value. Returns its number, or a negative one for an error.
local function add(self, item)
  if self._listed > 0 then self._batch:grow(self._listed) end
  self._listed = 0
  local ok, bytes = pcall(self._batch.add, self._batch, item)
  if ok then
    self._sent = self._sent + 1
    if bytes > SHORT then weigh(self, self._sent, bytes) end
    return self._sent
  end
  if Error.is(bytes, "interrupted") then error(bytes, 0) end
  local number = -self._count -- the batch has no number for it
  self._errors[number] = bytes
  self._odd = true
  return number
end

-- Note that a result, or an error, has arrived; it is returned in its turn.
local function note_arrival(self, number)
  self._items[number] = nil
  if self._ordered then
    self._arrived[self._place[number] or number] = number
  else
    self._last = self._last + 1
    self._arrived[self._last] = number
  end
end

local function set_place(self, number)
  self._place[number] = self._count
  self._odd = true
end

-- The source has been read to its end.
local function finish_source(self)
  self._ended = true
  send(self)
  self._batch:finish()
end

-- Handle an item that is not a plain value in sequence; false at the end of the source.
local function read_odd(self, item)
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
    if kind == "string" and #item > SHORT then weigh(self, number, #item) end
  else
    number = add(self, item)
  end
  if number ~= self._count then set_place(self, number) end
  if number < 0 then note_arrival(self, number) end
  return true
end

local function is_ready(self)
  return self._arrived[self._returned + 1] ~= nil
end

-- Read the source while the window has room and no result is ready. Most items are short plain
-- values, so that this loop does little for them.
local function fill(self)
  local limit, now = window_size(self), core.now
  local source, items, arrived, before = self._next, self._items, self._arrived, now()
  if self._count - self._returned > limit - limit // 4 and limit >= 64 then return end
  while not self._ended and self._count - self._returned < limit do
    local item = source()
    local number = self._sent + 1
    local kind = type(item)
    if (kind == "string" and #item <= SHORT or kind == "number") and number == self._count + 1
        and not (self._closed or self._ended) then
      self._count, self._sent, self._listed = number, number, self._listed + 1
      items[number] = item
    elseif not read_odd(self, item) then
      break
    end
    local after = now()
    if after - before > SLOW then
      send(self)
      wait.until_done(self, (after - before) * POLL_SHARE)
      after = now()
    end
    if arrived[self._returned + 1] ~= nil or self._closed then break end
    before = after
    if not self._inflight and self._bytes >= BYTES_MAX then break end
  end
  if not self._closed then send(self) end
end

---Handle results that have arrived; called by wait.lua.
function Imap:pump()
  if self._closed then return end
  local order, values = self._order, self._values
  local n = self._batch:take(values, self._errors, order)
  if next(self._errors) then self._odd = true end
  local simple = self._ordered and not self._odd
  local items, arrived = self._items, self._arrived
  for i = 1, n do
    local number = order[i]
    order[i] = nil
    local value = values[number]
    if type(value) == "string" and #value > SHORT then weigh(self, number, #value) end
    if simple then
      items[number], arrived[number] = nil, number
    else
      note_arrival(self, number)
    end
  end
end

---Whether a result is ready, or none will come; called by wait.lua.
function Imap:done()
  return is_ready(self) or self._closed or self._batch:done()
end

-- The source is exhausted: end, or raise the error of the whole batch.
local function finish(self)
  local whole = not self._closed and (self._batch:whole() or self._cut)
  self:close()
  if whole then error(whole, 0) end
  return nil
end

-- Handle the error, the place and the weight of the next result, which are rare.
local function return_odd_result(self, number, value)
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
local function return_result(self, number)
  local returned, values = self._returned + 1, self._values
  local value = values[number]
  self._returned, self._arrived[returned], values[number] = returned, nil, nil
  if self._odd then return return_odd_result(self, number, value) end
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
  return return_result(self, self._arrived[self._returned + 1])
end

---Stop reading the source, because the pool is joined: join() cannot wait for the reader, which may
---be its own caller. Items that were read continue, and their results can be taken.
function Imap:stop_reading()
  if self._closed or self._ended then return end
  self._ended = true
  self._cut = Error.new {
    kind = "closed", message = "the pool was joined before the source was read to its end",
  }
  send(self)
  self._batch:finish()
end

---Cancel the work.
function Imap:close()
  if self._closed then return end
  self._closed = true
  self._batch:close()
  local _ <close> = self._closing -- the iterator's closing value
end

Imap.__close = Imap.close

---@param pool fzlua.Pool kept alive
---@param core_pool userdata
---@param f function
---@param source table result of Imap.source()
---@param ordered boolean
---@param options table checked, with all defaults; workers: number of workers in the pool
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
    _workers = options.workers, _window = 2 * options.workers,
    _items = items, -- by number in the batch, until they are done
    _values = {}, _errors = {}, _weight = {}, -- by number, until they are returned
    _place = {}, -- number -> place in the source, if they differ
    _order = {}, -- numbers of results that have arrived; empty outside of pump()
    _arrived = {}, -- place, or order of arrival -> number
    _odd = false, -- there have been errors, weights, or places that differ
    _count = 0, _sent = 0, _listed = 0, _returned = 0, _last = 0, _bytes = 0,
    _ended = false, _closed = false,
    _cut = nil, -- error to raise because the source was not read to its end
  }, Imap)
  pool._imaps[self] = true
  local arrived, values = self._arrived, self._values
  return function()
    local returned = self._returned + 1
    local number = arrived[returned]
    if number and not (self._odd or self._closed) then -- a short form of step()
      local value = values[number]
      self._returned, arrived[returned], values[number] = returned, nil, nil
      return number, value
    end
    return step(self)
  end, nil, nil, self
end

---Check the source: a list, or an iterator with the state and control values of a for loop.
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
