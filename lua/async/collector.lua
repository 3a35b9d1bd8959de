--- collector.lua - returns futures in the order in which they are done.

local wait = require "fzlua.wait"
local waiters = require "fzlua.waiters"

---@class fzlua.Collector
local Collector = { is_list = true, what = "one of several futures" }
Collector.__index = Collector

-- The waiter that a collector adds to the list of one future.
local Node = {}
Node.__index = Node

local function arrive(self, future)
  self._narrived = self._narrived + 1
  self._arrived[self._narrived] = future
end

function Node:notify(future)
  arrive(self.of, future)
  waiters.wake_all(self.of)
end

---@param futures fzlua.Future[] may have a future more than once
---@return fzlua.Collector to be closed
function Collector.new(futures)
  local self = setmetatable({
    _arrived = {}, _narrived = 0, _returned = 0, _n = #futures, _nodes = {},
  }, Collector)
  for _, future in ipairs(futures) do
    if future:done() then
      arrive(self, future)
    else
      local node = setmetatable({ of = self }, Node)
      waiters.add(future, node)
      self._nodes[#self._nodes + 1] = node
    end
  end
  return self
end

---Whether a future is done that was not returned yet. Called by wait.lua.
function Collector:done()
  return self._narrived > self._returned
end

---Wait for the next future, `timeout` seconds at most.
---@param timeout number|nil
---@return fzlua.Future|nil future nil after the last, or if the time ran out
---@return "timeout"|nil
function Collector:next(timeout)
  if self._returned == self._n then return nil end
  if not self:done() then
    local ok, why = wait.until_done(self, timeout)
    if not ok then return nil, why end
  end
  self._returned = self._returned + 1
  local future = self._arrived[self._returned]
  self._arrived[self._returned] = nil
  return future
end

---Remove the nodes of the pending futures from their lists of waiters.
function Collector:__close()
  for _, node in ipairs(self._nodes) do waiters.remove(node) end
end

return Collector
