--- imap.lua - a lazy map: results while the source is still being read.
--
-- At most as many items are under way as there are workers, and `inflight`
-- more; the source is asked for another one when a result has been taken.

local Error = require "fzlua.error"
local Mapping = require "fzlua.mapping"
local check = require "fzlua.check"
local core = require "fzlua.core"
local task = require "fzlua.task"

---@class fzlua.Imap
local Imap = {}
Imap.__index = Imap
Imap.__name = "fzlua.Imap"
Imap.__fzpack = false -- cannot be sent

-- The elements of a list, or of an iterator, one a call: true, item or nothing.
local function reader(source)
  if type(source) == "table" and not (getmetatable(source) or {}).__call then
    local n, i = Mapping.length(source), 0
    return function()
      if i >= n then return end
      i = i + 1
      return true, source[i]
    end
  end
  return function()
    local item = source()
    if item == nil then return end
    return true, item
  end
end

-- Read the source while there is room, several items at once rather than one at each
-- step; what cannot be sent has failed at once.
local function fill(self)
  local added = false
  if self._count - self._handed > self._low then return end
  while not self._ended and self._count - self._handed < self._room do
    local there, item = self._next()
    if not there then
      self._ended = true
      self._batch:finish()
      break
    end
    self._count = self._count + 1
    local ok, e = pcall(self._batch.add, self._batch, item)
    if ok then
      self._sent = self._sent + 1
      self._place[self._sent] = self._count
      added = true
    elseif Error.is(e, "interrupted") then
      error(e, 0)
    else
      self._arrived[#self._arrived + 1] = { self._count, nil, e }
    end
  end
  if added then self._batch:start() end
end

---Take what has come; called by task.lua.
function Imap:pump()
  local values, errors, order = {}, {}, {}
  if self._closed or self._batch:take(values, errors, order) == 0 then return end
  for _, number in ipairs(order) do
    local place = self._place[number]
    self._place[number] = nil
    self._arrived[#self._arrived + 1] = { place, values[number], errors[number] }
  end
end

-- What can be handed out now, or nil.
local function take(self)
  if #self._arrived > 0 then
    for _, arrival in ipairs(self._arrived) do
      if self._ordered then
        self._waiting[arrival[1]] = arrival
      else
        self._queue[self._last + 1] = arrival
        self._last = self._last + 1
      end
    end
    self._arrived = {}
  end
  local list = self._ordered and self._waiting or self._queue
  local arrival = list[self._handed + 1]
  list[self._handed + 1] = nil
  return arrival
end

---Whether something can be handed out, or nothing will come; called by task.lua.
function Imap:done()
  self._ready = self._ready or take(self)
  return self._ready ~= nil or self._closed or self._batch:done()
end

local function step(self)
  if self._closed then return nil end
  fill(self)
  task.wait(self)
  local arrival = self._ready
  self._ready = nil
  if not arrival then
    local whole = not self._closed and (self._batch:whole() or self._cut)
    self:close()
    if whole then error(whole, 0) end
    return nil
  end
  self._handed = self._handed + 1
  local index, value, e = table.unpack(arrival, 1, 3)
  if e ~= nil then
    e = Mapping.name_error(e, index)
    if self._options.on_error ~= "continue" then
      self:close()
      error(e, 0)
    end
  end
  return index, value, e
end

---Read the source no further: its pool is joined, and whoever joins cannot wait for
---the reader, which may be the same. What was read goes on and can be taken.
function Imap:stop_reading()
  if self._closed or self._ended then return end
  self._ended = true
  self._cut = Error.new {
    kind = "closed", message = "the pool was joined before the source was read to its end",
  }
  self._batch:finish()
end

---End what runs.
function Imap:close()
  if self._closed then return end
  self._closed = true
  self._batch:close()
end

Imap.__close = Imap.close

---@param pool fzlua.Pool kept alive
---@param core_pool userdata
---@param f function
---@param source table|function
---@param ordered boolean
---@param options table checked, with all defaults
function Imap.new(pool, core_pool, f, source, ordered, options)
  local read = reader(source) -- may raise: before there is a batch to be waited for
  local batch = core.batch(core_pool, f, nil, {
    kind = "map", on_error = "continue", seed = options.seed, timeout = options.timeout,
    retries = options.retries, backoff = options.backoff, memory = options.memory,
  })
  local self = setmetatable({
    _pool = pool, _batch = batch, _next = read, _ordered = ordered, _options = options,
    _room = options.room, _low = options.room - (options.inflight + 1) // 2, -- read on from here
    _count = 0, _sent = 0, _handed = 0, _last = 0, _ended = false, _closed = false,
    _place = {}, _arrived = {}, _waiting = {}, _queue = {}, _ready = nil,
    _cut = nil, -- what to raise where the source was not read to its end
  }, Imap)
  pool._imaps[self] = true
  return function() return step(self) end, nil, nil, self
end

---Raise unless `source` is a list or can be called.
function Imap.check(source, what)
  local callable = type(source) == "function" or (getmetatable(source) or {}).__call
  if type(source) ~= "table" and not callable then
    check.fail("bad argument #2 to '%s' (a list or an iterator expected, got %s)", what,
      source == nil and "no value" or check.typename(source))
  end
end

return Imap
