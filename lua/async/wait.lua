--- wait.lua - the one place in Lua that waits.
--
-- A wait turns the engine's loop until an object is done. The loop reports the id of each object
-- that has changed (core.changed), and only the watcher of that object is pumped, so that it
-- handles what has arrived.
--
-- In a task, a wait yields a Wait instead, as waits in C do (bind/shared/lwait). The scheduler of
-- tasks calls try() after a change and at the deadline, and resumes the task once try() returns
-- true. Before that it may resume the task with an error, which the wait then raises.

local core = require "fzlua.core"
local Error = require "fzlua.error"

local wait = {}

-- Id of an object -> watcher with pump(id); `loose` does not keep its watchers alive.
local firm, loose = {}, setmetatable({}, { __mode = "v" })
local owner = nil -- pid of the process that watches; a forked worker has no watchers

local function own()
  local pid = core.pid()
  if owner ~= pid then
    firm, loose, owner = {}, setmetatable({}, { __mode = "v" }), pid
  end
  return firm, loose
end

---Call watcher:pump(id) after each change of an object, until wait.unwatch(id).
---@param id integer
---@param watcher table
function wait.watch(id, watcher)
  own()[id] = watcher
end

---The same, but the watch does not keep the watcher alive, and ends when it is collected.
---@param id integer
---@param watcher table
function wait.watch_loosely(id, watcher)
  select(2, own())[id] = watcher
end

---@param id integer
function wait.unwatch(id)
  local kept, other = own()
  kept[id], other[id] = nil, nil
end

local function pump()
  local id = core.changed()
  while id do
    local kept, other = own()
    local watcher = kept[id] or other[id]
    if watcher then watcher:pump(id) end
    id = core.changed()
  end
end

core.on_wake(pump) -- a wait in C, for a queue or a lock, pumps, too

local function nothing_watched()
  local kept, other = own()
  return next(kept) == nil and next(other) == nil
end

---Whether only the caller waits: no object is watched, and the caller is not in a task.
---@return boolean
function wait.alone()
  return nothing_watched() and not core.in_task()
end

---@class fzlua.Wait what a task yields
local Wait = {}
Wait.__index = Wait

---Whether the wait has ended: the object is done, or the time has run out.
---@return boolean
function Wait:try()
  local now = core.now()
  pump()
  if self._object.pump then self._object:pump() end
  self._done = self._object:done()
  return self._done or now >= self._until
end

---@return number time of core.now() by which try() must be called
function Wait:deadline()
  return self._until
end

local function wait_in_task(object, timeout)
  local self = setmetatable({
    _object = object, _until = timeout and core.now() + timeout or math.huge, _done = false,
  }, Wait)
  while not self:try() do
    local e = coroutine.yield(self)
    if e ~= nil and not self._done then error(e, 0) end
  end
  if self._done then return true end
  return nil, "timeout"
end

local function wait_in_loop(object, timeout)
  local deadline = timeout and core.now() + timeout
  local last = false
  while true do
    -- A callback may wait, too, and handle the event that this wait is for.
    local seen = core.wake_count()
    pump()
    if object.pump then object:pump() end
    if object:done() then return true end
    if last then return nil, "timeout" end
    local left = deadline and deadline - core.now()
    last = left ~= nil and left <= 0
    core.turn(last and 0 or left, seen)
  end
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
  if object._pumping and not timeout then
    Error.raise("error",
      "a result waits for itself: it is awaited in its own progress callback or __fzunpack")
  end
  if core.in_task() then return wait_in_task(object, timeout) end
  return wait_in_loop(object, timeout)
end

---Wait until no started work is left.
function wait.drain()
  wait.until_done { done = nothing_watched }
end

return wait
