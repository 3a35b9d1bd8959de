--- batch_events.lua - passes the events of a batch to a progress function.

local callback = require "fzlua.callback"

---@class fzlua.BatchEvents
---@field total integer|nil number of items; nil: unknown
---@field closed boolean set when the batch is closed: the function is not called any more
local BatchEvents = {}
BatchEvents.__index = BatchEvents

---@param batch userdata
---@param f nil|boolean|function the option `progress`
---@param total integer|nil
---@return fzlua.BatchEvents|nil nil unless f is a function
function BatchEvents.new(batch, f, total)
  f = callback.progress(f)
  if not f then return nil end
  return setmetatable(
    { _batch = batch, _f = f, _count = 0, total = total, closed = false }, BatchEvents)
end

local ENDS = { done = true, failed = true, cached = true }

function BatchEvents:report(kind, index, pid, seconds)
  if ENDS[kind] then self._count = self._count + 1 end
  local cached = kind == "cached" or nil
  self._f(self._count, self.total, {
    kind = cached and "done" or kind, index = index, pid = pid, seconds = seconds, cached = cached,
  })
end

---Report all events until now. The progress function may close the batch or wait, so changes are
---handled before each event.
---@param handle fun(owner: table)|nil
---@param owner? table
function BatchEvents:report_all(handle, owner)
  while not self.closed do
    if handle then handle(owner) end
    if self.closed then return end
    local kind, first, n, pid, seconds = self._batch:event()
    if not kind then return end
    for index = first, first + n - 1 do
      if self.closed then return end
      self:report(kind, index, pid, seconds)
    end
  end
end

---Report the items that never ran, so that in the last call of the progress function `done` is
---equal to `total`.
function BatchEvents:report_rest()
  while self._count < self.total and not self.closed do self:report("failed", nil) end
end

return BatchEvents
