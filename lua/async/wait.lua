--- wait.lua - the one place in Lua that waits.
--
-- A wait turns the engine's loop until an object is done. After each turn, all watched objects are
-- pumped, so that they handle what has arrived for them.

local core = require "fzlua.core"
local Error = require "fzlua.error"

local wait = {}

local watched = {} -- objects with pump(), in the order of their start
local owner = nil -- pid of the process that watches them; a forked worker has none

local function own()
  local pid = core.pid()
  if owner ~= pid then
    watched, owner = {}, pid
  end
  return watched
end

---Pump `object` after every turn, until wait.unwatch().
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
      i = 1 -- a callback has removed earlier objects: start again
    elseif list[i] == object then
      i = i + 1
    end
  end
end

core.on_news(pump) -- a wait in C, for a queue or a lock, pumps, too

---Whether no object is watched, so that only the caller waits.
---@return boolean
function wait.alone()
  return own()[1] == nil
end

---Wait until object:done(), `timeout` seconds at most. If the object has pump(), it is pumped even
---if it is not watched. While its callbacks run it has `_pumping` set and is not done.
---@param object table
---@param timeout number|nil nil: without limit
---@return boolean|nil done, "timeout"|nil
function wait.until_done(object, timeout)
  -- The engine can wait for a batch on its own if nothing else must be pumped.
  if not timeout and object.wait_alone and wait.alone() and object:wait_alone() then
    return true
  end
  local deadline = timeout and core.now() + timeout
  local last = false
  if object._pumping and not timeout then
    Error.raise("error",
      "a result waits for itself: it is awaited in its own progress callback or __fzunpack")
  end
  while true do
    -- A callback may wait, too, and handle the event that this wait is for.
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

---Wait until no started work is left.
function wait.drain()
  for _, object in ipairs { table.unpack(own()) } do
    wait.until_done(object)
  end
end

return wait
