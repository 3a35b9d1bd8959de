--- waiters.lua - the tasks and other objects that wait for one object: a linked list.
--
-- A list is any table with the fields _first and _last. A waiter is in at most one list, which is
-- its field _list, so that the waiter is removed without a search. A waiter that is not a task has
-- a method notify(list), which is called once. A field without a waiter is false, not nil, because
-- the assignment to a field that is nil is slow.

local scheduler = require "fzlua.scheduler"

local waiters = {}

local wake = scheduler.wake

---Append a waiter that is not in a list.
---@param list table
---@param waiter table
function waiters.add(list, waiter)
  local last = list._last
  if last then last._next = waiter else list._first = waiter end
  waiter._list, waiter._previous, list._last = list, last, waiter
end

---Remove a waiter from its list. Does nothing if the waiter is not in a list.
---@param waiter table
function waiters.remove(waiter)
  local list = waiter._list
  if not list then return end
  local previous, next_one = waiter._previous, waiter._next
  if previous then previous._next = next_one else list._first = next_one end
  if next_one then next_one._previous = previous else list._last = previous end
  waiter._list, waiter._previous, waiter._next = false, false, false
end

---End a task that does not run, and close its variables.
---@param task table
---@return boolean ok, any error of a variable
function waiters.end_task(task)
  waiters.remove(task)
  return scheduler.end_task(task)
end

---Remove all waiters: wake the tasks, and notify the other waiters.
---@param list table
function waiters.wake_all(list)
  local waiter = list._first
  list._first, list._last = false, false
  while waiter do
    local next_one = waiter._next
    waiter._list, waiter._previous, waiter._next = false, false, false
    if waiter._co then
      wake(waiter)
    elseif waiter.notify then -- else: Ctrl-C has ended a task just when it began to wait
      waiter:notify(list)
    end
    waiter = next_one
  end
end

return waiters
