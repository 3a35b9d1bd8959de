--- turns.lua - calls of one object that wait for each other: each has its turn in their order.
--
-- The current turn and the waiting ones are in a list of waiters.lua. A turn is itself the list
-- that the task waiting for it is in.

local scheduler = require "fzlua.scheduler"
local wait = require "fzlua.wait"
local waiters = require "fzlua.waiters"

local turns = {}

---@class fzlua.Turn
local Turn = { is_list = true, what = "the calls before it" }
Turn.__index = Turn

---@param list table all turns of the object
---@return fzlua.Turn behind all others; to be closed
function turns.add(list)
  -- It has room for the fields of lists and waiters, because a table that grows is slow.
  local turn = setmetatable({
    _first = false, _last = false, _list = false, _previous = false, _next = false,
  }, Turn)
  waiters.add(list, turn)
  return turn
end

---Whether all calls before this turn have ended; called by wait.lua.
function Turn:done()
  return self._list._first == self
end

---Wait until the turn is done. A task that cannot be suspended does not wait, because the calls
---before it may be its own callers.
function Turn:wait()
  if not scheduler.current() then wait.until_done(self) end
  while not self:done() and wait.in_list(self) do end
end

---End the turn, because the call has ended, perhaps before its turn came.
function Turn:__close()
  local list = self._list
  waiters.remove(self)
  if list._first then waiters.wake_all(list._first) end
end

return turns
