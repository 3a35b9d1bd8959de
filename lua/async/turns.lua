--- turns.lua - calls of one object that run one after the other, in the order of their starts.
--
-- Each call has a turn. The current turn and the waiting turns are in a list of waiters.lua. Each
-- turn is also a list of waiters, for the task that waits for this turn.

local scheduler = require "fzlua.scheduler"
local wait = require "fzlua.wait"
local waiters = require "fzlua.waiters"

local turns = {}

---@class fzlua.Turn
local Turn = { is_list = true, what = "the calls before it" }
Turn.__index = Turn

---@param list table all turns of the object
---@return fzlua.Turn after all others; to be closed
function turns.add(list)
  -- Set the fields of lists and of waiters now, because a table that grows later is slow.
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

---Wait until all calls before this turn have ended. A task that cannot be suspended does not wait,
---because an earlier call may be its own caller, which waits for it.
function Turn:wait()
  if not scheduler.current() then wait.until_done(self) end
  while not self:done() and wait.in_list(self) do end
end

---End the turn, because the call has ended. The call may have ended before its turn came.
function Turn:__close()
  local list = self._list
  waiters.remove(self)
  if list._first then waiters.wake_all(list._first) end
end

return turns
