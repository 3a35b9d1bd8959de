--- imap.lua - a lazy map: results are returned while the source is still being read.
--
-- core.imap holds the items and the results. Numbers, strings and booleans wait in its list, and
-- many of them are encoded together when a worker is free. A table is encoded when it is read,
-- because it may change later.

local BatchEvents = require "fzlua.batch_events"
local Error = require "fzlua.error"
local ItemCache = require "fzlua.item_cache"
local Mapping = require "fzlua.mapping"
local Trace = require "fzlua.trace"
local Window = require "fzlua.window"
local core = require "fzlua.core"
local source = require "fzlua.source"

---@class fzlua.Imap: fzlua.Window
local Imap = Window.class "fzlua.Imap"

function Imap:gather()
  local recorded = self._recorded
  if not recorded then return self._items:gather() end
  local made = { n = 0 }
  self._items:gather(made)
  for k = 1, made.n, 2 do recorded:record(made[k], made[k + 1]) end
  if made.n > 0 then recorded:flush() end
end

function Imap:record()
  if self._recorded then self:gather() end
end

function Imap:leave()
  if not self._recorded then return end
  pcall(self.gather, self)
  self._recorded:release()
end

-- Wrap a source. If the result of an item is recorded, the new source passes this result to
-- core.imap.
local function recalling(recorded, items, following)
  return function()
    local item = following()
    if item == nil then return nil end
    local value = item
    if item == source.NOTHING then value = nil end
    local bytes = recorded:find(items:nread() + 1, value)
    if bytes then items:know(bytes) end
    return item
  end
end

function Imap:decide_retries()
  Mapping.decide_retries(self, self._work, self._asks)
end

function Imap:whole()
  return self._work:whole()
end

function Imap:name_error(number, e)
  if self._recorded and Error.is(e) then
    self._recorded:fail(number, e)
    self._recorded:flush() -- the loop may take long, and other processes wait for the file
  end
  return Mapping.name_error(e, number)
end

---Stop reading the source, because pool:join() was called. join() cannot wait for the end of the
---source, which may itself have called join(). Items that were read continue, and the loop can
---take their results.
function Imap:stop_reading()
  if self._closed or not self._items:stop() then return end
  self._cut = Error.new {
    kind = "closed", message = "the pool was joined before the source was read to its end",
  }
end

---@param pool fzlua.Pool kept alive
---@param core_pool userdata
---@param f function
---@param from fzlua.Source
---@param ordered boolean
---@param options table checked, with all defaults; workers: number of workers in the pool
---@return function, nil, nil, fzlua.Imap as a for loop takes them
function Imap.new(pool, core_pool, f, from, ordered, options)
  local inflight, chunk = options.inflight, options.chunksize
  local limit = inflight or 2 * options.workers * (chunk or 1)
  -- A fold sets `inflight` in proportion to its workers, so its window does not count as fixed.
  local trace, trace_names = Trace.of_call(options.call, f,
    { limit = limit, is_fixed = inflight ~= nil and not options.call:find "fold$" })
  local items, batch = core.imap(core_pool, f, {
    ordered = ordered, limit = limit, fixed = inflight ~= nil, chunk = chunk,
    kind = from.packed and "starmap" or "map", growing = true, on_error = "continue",
    seed = options.seed, timeout = options.timeout, retries = options.retries,
    backoff = options.backoff, memory = options.memory, retry_if = options.retry_if,
    events = type(options.progress) == "function", trace = trace, trace_names = trace_names,
  })
  local self = {
    _pool = pool, _work = batch, _items = items, _shown = Mapping.show(from.n, batch, options),
    _events = BatchEvents.new(batch, options.progress, from.n), _asks = options.retry_if,
  }
  self._recorded = ItemCache.new(options, f, from.packed and "starmap" or "map") or false
  if self._recorded then from.next = recalling(self._recorded, items, from.next) end
  pool._imaps[self] = true
  return Window.open(self, Imap, from, options)
end

return Imap
