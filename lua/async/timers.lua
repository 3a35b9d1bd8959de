--- timers.lua - a binary heap of tasks, ordered by the time at which they continue.
--
-- A task in the heap has its time in _at and its index in _index. So a task leaves the heap without
-- a search.

---@class fzlua.Timers
local Timers = {}
Timers.__index = Timers

---@return fzlua.Timers
function Timers.new()
  return setmetatable({ n = 0 }, Timers)
end

-- Move `task` from the free index `i` towards the first index, as far as its time requires.
local function rise(self, i, task)
  local at = task._at
  while i > 1 do
    local above = self[i // 2]
    if above._at <= at then break end
    self[i], above._index = above, i
    i = i // 2
  end
  self[i], task._index = task, i
end

-- Put `task` at the free index `i`, or where its time requires: after earlier tasks, before later
-- ones.
local function sink(self, i, task)
  local at, n = task._at, self.n
  while true do
    local child = 2 * i
    if child < n and self[child + 1]._at < self[child]._at then child = child + 1 end
    if child > n or self[child]._at >= at then break end
    self[i], self[child]._index = self[child], i
    i = child
  end
  rise(self, i, task)
end

---Add a task that is not in the heap.
---@param task table
---@param at number time of core.now()
function Timers:add(task, at)
  local n = self.n + 1
  task._at = at
  self[n] = task -- store the task first: if there is no memory for it, the heap is unchanged
  self.n = n
  rise(self, n, task)
end

---Remove a task. Does nothing if the task is not in the heap.
---@param task table
function Timers:remove(task)
  local i, n = task._index, self.n
  if not i then return end
  local last = self[n]
  self[n], self.n, task._index = nil, n - 1, false
  if last ~= task then sink(self, i, last) end
end

---The earliest time; nil if the heap is empty.
---@return number|nil
function Timers:next()
  local first = self[1]
  return first and first._at
end

---Remove and return the first task if its time is `now` or earlier; else nil.
---@param now number
---@return table|nil
function Timers:due(now)
  local first = self[1]
  if not first or first._at > now then return nil end
  self:remove(first)
  return first
end

return Timers
