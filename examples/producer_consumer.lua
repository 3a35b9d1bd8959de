-- producer_consumer.lua: two bakers and three customers share a shelf with room for five loaves.
--
--   fzlua examples/producer_consumer.lua
--
-- Shows fz.condition: a baker waits until there is room, a customer until there is bread, and each
-- change of the shelf notifies the processes that wait. (fz.queue(5) does all of this; the example
-- shows how.)

local fz = require "fzlua"

local ROOM <const>, LOAVES <const>, BAKERS <const>, CUSTOMERS <const> = 5, 60, 2, 3

local shelf = fz.array("i", ROOM) -- a ring: the number of the loaf at each place
local put, taken = fz.value("i", 0), fz.value("i", 0) -- numbers since the shop has opened
local changed = fz.condition()

local function bake(baker)
  for n = 1, LOAVES do
    changed:with(function()
      changed:wait_for(function() return put.value - taken.value < ROOM end)
      shelf[put.value % ROOM + 1] = (baker - 1) * LOAVES + n
      put.value = put.value + 1
      changed:notify_all()
    end)
  end
end

local function buy(loaves)
  local bought = {}
  for i = 1, loaves do
    bought[i] = changed:with(function()
      changed:wait_for(function() return taken.value < put.value end)
      local loaf = shelf[taken.value % ROOM + 1]
      taken.value = taken.value + 1
      changed:notify_all()
      return loaf
    end)
  end
  return bought
end

for baker = 1, BAKERS do fz.process(bake, baker):start() end
local customers = {}
for i = 1, CUSTOMERS do
  customers[i] = fz.process(buy, BAKERS * LOAVES // CUSTOMERS):start()
end

local seen, twice = {}, 0
for _, p in ipairs(customers) do
  for _, loaf in ipairs(p:result()) do
    if seen[loaf] then twice = twice + 1 end
    seen[loaf] = true
  end
end
print("loaves bought:", #seen)
print("sold twice:", twice)
print("left on the shelf:", put.value - taken.value)
