--- wait.lua - the one place in Lua that waits.
--
-- Waiting is turning the engine's loop until something is done. Whatever is
-- under way and wants to know of it is pumped after each turn.

local core = require "fzlua.core"
local Error = require "fzlua.error"

local wait = {}

local watched = {} -- objects with pump(), in order of their start
local owner = nil -- the process they belong to: a forked worker has none of them

local function own()
  local pid = core.pid()
  if owner ~= pid then
    watched, owner = {}, pid
  end
  return watched
end

---Pump `object` after every turn until wait.unwatch().
function wait.watch(object)
  local list = own()
  list[#list + 1] = object
end

function wait.unwatch(object)
  local list = own()
  for i, other in ipairs(list) do
    if other == object then
      table.remove(list, i)
      return
    end
  end
end

local function pump()
  local list, i = own(), 1
  while i <= #list do
    local before, object = list[i - 1], list[i]
    object:pump()
    if list[i - 1] ~= before then
      i = 1 -- a callback ended earlier ones: the rest has moved
    elseif list[i] == object then
      i = i + 1
    end
  end
end

core.on_news(pump) -- a wait in C, for a queue or a lock, lets others look, too

---Whether nobody but the caller is to be told of what happens.
---@return boolean
function wait.alone()
  return own()[1] == nil
end

---Wait until object:done(), at most `timeout` seconds. An object that has pump() is
---pumped, watched or not; while its callbacks are being called it has `_pumping`
---set: it is not done before they return.
---@param object table
---@param timeout number|nil nil: for ever
---@return boolean|nil done, "timeout"|nil
function wait.until_done(object, timeout)
  -- The engine can wait for a batch alone, where nobody else is to look.
  if not timeout and object.wait_alone and wait.alone() and object:wait_alone() then
    return true
  end
  local deadline = timeout and core.now() + timeout
  local last = false
  if object._pumping and not timeout then
    Error.raise("error", "waits for itself: awaited in its own progress callback or __fzunpack")
  end
  while true do
    -- A callback may wait too, and take the news that this one is to look at.
    local seen = core.news()
    pump()
    if object.pump then object:pump() end
    if object:done() then return true end
    if last then return nil, "timeout" end
    local left = deadline and deadline - core.now()
    last = left ~= nil and left <= 0
    core.turn(last and 0 or left, seen)
  end
end

---Wait until nothing that was started is under way any more.
function wait.drain()
  for _, object in ipairs { table.unpack(own()) } do
    wait.until_done(object)
  end
end

return wait
