--- imap.lua - a lazy map: results are returned while the source is still being read.
--
-- core.window holds the items and the results; this module decides when the source is read, and
-- waits. Numbers, strings and booleans wait in the window's list, and many are encoded at once when
-- a worker is free. A table may change before that, so that it is encoded when it is read.
--
-- A ready result is returned before the source is read again. The size of the window is the number
-- of items that may be read and not yet returned.

local BatchEvents = require "fzlua.batch_events"
local Error = require "fzlua.error"
local Mapping = require "fzlua.mapping"
local core = require "fzlua.core"
local source = require "fzlua.source"
local wait = require "fzlua.wait"

---@class fzlua.Imap
local Imap = {}
Imap.__index = Imap
Imap.__name = "fzlua.Imap"
Imap.__fzpack = false -- cannot be sent

-- Limits of a window that sizes itself: items, bytes, and seconds of work for each worker.
local WINDOW_MAX <const>, BYTES_MAX <const>, WORK <const> = 1024, 8 << 20, 0.005
-- After a call of a slow source, results are polled for this part of the call's time.
local POLL_SHARE <const> = 1 / 16

local NOTHING <const> = source.NOTHING

-- Widen the window, because the consumer had to wait, up to WORK seconds of work per worker.
local function widen(self)
  local mean = self._batch:mean()
  local most = mean > 0 and WORK * self._workers / mean or WINDOW_MAX
  self._size = math.max(self._size, math.min(2 * self._size, most // 1 | 0, WINDOW_MAX))
end

-- Send the items in the list.
local function send(self)
  self._window:send()
  self._batch:start()
end

-- Add an item that is not a plain value. It fails if it cannot be sent.
local function add(self, item)
  self._window:send()
  local ok, bytes = pcall(self._batch.add, self._batch, item)
  if ok then return self._window:added(bytes) end
  if Error.is(bytes, "interrupted") then error(bytes, 0) end
  self._window:skip(bytes)
end

-- The source is not read any more.
local function end_source(self)
  self._ended = true
  self._window:stop()
  send(self)
  self._batch:finish()
end

-- Read the source while the window has room and no result is ready. The items are sent, and results
-- are polled, after each call of a slow source.
local function fill(self)
  local window, limit = self._window, self._size
  local bytes = self._inflight and math.maxinteger or BYTES_MAX
  if window:held() > limit - limit // 4 and limit >= 64 then return end
  local seconds, odd, item
  repeat
    seconds, odd, item = window:read(self._next, limit, bytes)
    if odd and item == nil then return end_source(self) end
    if odd then add(self, item ~= NOTHING and item or nil) end
    if seconds and seconds > 0 then
      send(self)
      wait.until_done(self, seconds * POLL_SHARE)
    end
  until not seconds or self._closed
  if not self._closed then send(self) end
end

-- Decide about failed items, and pass on the events of all items that have changed.
local function call_back(self)
  local retry_if = self._options.retry_if
  self._pumping = true
  local _ <close> = setmetatable({}, { __close = function() self._pumping = nil end })
  if retry_if then Mapping.decide_retries(self, self._batch, retry_if) end
  if self._events then self._events:report_all() end
end

---Handle results that have arrived; called by wait.lua.
function Imap:pump()
  if self._closed or self._pumping then return end
  if self._events or self._options.retry_if then call_back(self) end
  if not self._closed then self._window:take() end
end

---@return integer id of what changes before a result is ready; for wait.lua
function Imap:id()
  return self._batch:id()
end

---Whether a result is ready, or none will come; called by wait.lua.
function Imap:done()
  return self._closed or self._window:ready() or not self._pumping and self._batch:done()
end

-- The source is exhausted: end, or raise the error of the whole batch.
local function finish(self)
  local whole = not self._closed and (self._batch:whole() or self._cut)
  if self._shown and not whole then self._shown:finish "done" end
  self:close()
  if whole then error(whole, 0) end
  return nil
end

-- Number, value and error of the next result, which is ready.
local function return_result(self)
  local number, value, e = self._window:pop()
  if e == nil then return number, value end
  e = Mapping.name_error(e, number)
  if self._options.on_error ~= "continue" then
    self:close()
    error(e, 0)
  end
  return number, value, e
end

local function step(self)
  if self._closed then return nil end
  if self._shown then require "fzlua.progress".poll() end
  local window = self._window
  if not window:ready() then
    self:pump()
    if not self:done() then
      fill(self)
      if not self._inflight and not window:ready() then widen(self) end
      wait.until_done(self)
    end
    if self._closed or not window:ready() then return finish(self) end
  end
  return return_result(self)
end

---Stop reading the source, because the pool is joined: join() cannot wait for the reader, which may
---be its own caller. Items that were read continue, and their results can be taken.
function Imap:stop_reading()
  if self._closed or self._ended then return end
  self._cut = Error.new {
    kind = "closed", message = "the pool was joined before the source was read to its end",
  }
  end_source(self)
end

---Cancel the work.
function Imap:close()
  if self._closed then return end
  self._closed = true
  if self._events then self._events.closed = true end
  if self._shown then self._shown:finish() end
  self._window:close()
  self._batch:close()
  local _ <close> = self._closing -- the iterator's closing value
end

Imap.__close = Imap.close

---@param pool fzlua.Pool kept alive
---@param core_pool userdata
---@param f function
---@param from fzlua.Source
---@param ordered boolean
---@param options table checked, with all defaults; workers: number of workers in the pool
function Imap.new(pool, core_pool, f, from, ordered, options)
  local window = core.window(ordered, options.inflight)
  local batch = core.batch(core_pool, f, window:items(), {
    kind = from.packed and "starmap" or "map", growing = true, on_error = "continue",
    seed = options.seed, timeout = options.timeout, retries = options.retries,
    backoff = options.backoff, memory = options.memory, retry_if = options.retry_if,
    events = type(options.progress) == "function",
  })
  window:bind(batch)
  local shown = Mapping.show(from.n, batch, options)
  local self = setmetatable({
    _pool = pool, _batch = batch, _window = window, _next = from.next,
    _closing = from.closing, _options = options, _inflight = options.inflight,
    _workers = options.workers, _size = options.inflight or 2 * options.workers,
    _ended = false, _closed = false,
    _shown = shown, _events = BatchEvents.new(batch, options.progress, from.n),
    _cut = nil, -- error to raise because the source was not read to its end
  }, Imap)
  pool._imaps[self] = true
  local function next_result() return step(self) end
  return shown and next_result or window:iterator(next_result), nil, nil, self
end

return Imap
