---@meta _
-- Locks, semaphores, events, conditions, barriers
--
-- Each of them can be inherited or sent, and is the same object in each process. A wait uses no
-- processor time.

---@class fzlua
local fz = {}

---Make a lock, which one task of one process holds at a time.
---
---```lua
---local lock, total = fz.lock(), fz.value("j", 0)
---fz.map(function(x)
---  local guard <close> = lock:guard()
---  total.value = total.value + x
---end, {1, 2, 3})
---print(total.value) --> 6
---```
---@return fzlua.Lock lock
function fz.lock() end

---Make a lock that its holder may acquire again. It must be released as often as it was acquired.
---@return fzlua.Lock lock
function fz.rlock() end

---@class fzlua.Lock
local lock = {}

---Wait until the caller holds the lock.
---@param timeout? number seconds; 0 does not wait
---@return boolean got false: the time ran out
---@return "abandoned"|nil how the last holder died without releasing it: the data that the lock
---guards may be inconsistent
function lock:acquire(timeout) end

---Release the lock. Raises unless the caller holds it.
function lock:release() end

---Call `f(...)` while the caller holds the lock, which is released also if `f` raises.
---@param f function
---@param ... any
---@return any ... all results of `f`
function lock:with(f, ...) end

---Acquire the lock until the end of a scope: `local guard <close> = lock:guard()`.
---@return fzlua.Guard guard
---@return "abandoned"|nil how
function lock:guard() end

---@class fzlua.Guard
local guard = {}

---Release the lock or semaphore before the end of the scope.
function guard:release() end

---Make a semaphore with `n` permits.
---@param n integer
---@return fzlua.Semaphore semaphore
function fz.semaphore(n) end

---Make a semaphore that raises if it is released more often than it was acquired.
---@param n integer
---@return fzlua.Semaphore semaphore
function fz.bounded_semaphore(n) end

---@class fzlua.Semaphore
local semaphore = {}

---Take a permit; waits for one.
---@param timeout? number seconds; 0 does not wait
---@return boolean got false: the time ran out
function semaphore:acquire(timeout) end

---Return permits; any process may.
---@param n? integer Default: 1
function semaphore:release(n) end

---The number of permits that can be taken now.
---@return integer n
function semaphore:value() end

---Call `f(...)` with a permit, which is returned also if `f` raises.
---@param f function
---@param ... any
---@return any ... all results of `f`
function semaphore:with(f, ...) end

---Take a permit until the end of a scope: `local guard <close> = semaphore:guard()`.
---@return fzlua.Guard guard
function semaphore:guard() end

---Make an event, which is not set.
---@return fzlua.Event event
function fz.event() end

---@class fzlua.Event
local event = {}

---Set the event: all waits return, and later ones return at once.
function event:set() end

---Clear the event, so that waits wait again.
function event:clear() end

---Whether the event is set.
---@return boolean set
function event:is_set() end

---Wait until the event is set.
---@param timeout? number seconds
---@return true|nil set nil if the time ran out
---@return "timeout"|nil why
function event:wait(timeout) end

---Make a condition: a lock, and processes that wait for a change of the data that it guards.
---@param lock? fzlua.Lock shared with other conditions. Default: an rlock of its own
---@return fzlua.Condition condition
function fz.condition(lock) end

---@class fzlua.Condition : fzlua.Lock
local condition = {}

---Release the lock, sleep until notified, and acquire the lock again. Raises unless the caller
---holds it.
---@param timeout? number seconds
---@return true|nil notified nil if the time ran out
---@return "timeout"|"abandoned"|nil how
function condition:wait(timeout) end

---Wait until `f()` is true. `f` is called while the caller holds the lock.
---@param f fun(): any
---@param timeout? number seconds
---@return any value the true value of `f`; nil if the time ran out
---@return "timeout"|"abandoned"|nil how
function condition:wait_for(f, timeout) end

---Wake the processes that have waited longest. Raises unless the caller holds the lock.
---@param n? integer the number of processes, at most. Default: 1
function condition:notify(n) end

---Wake all waiting processes. Raises unless the caller holds the lock.
function condition:notify_all() end

---Make a barrier for `n` processes or tasks.
---@param n integer
---@param action? fun() called by the last one to arrive, before any continues
---@return fzlua.Barrier barrier
function fz.barrier(n, action) end

---@class fzlua.Barrier
---@field parties integer number of processes that it waits for
---@field n_waiting integer number of processes that wait now
---@field broken boolean
local barrier = {}

---Wait until all parties wait. Raises if the barrier is broken: by a timeout, by a process that
---died in its wait, by an action that raised, or by `abort`.
---@param timeout? number seconds; if they run out, the barrier breaks
---@return integer|nil index number of processes that arrived before this one, from 0
---@return "timeout"|nil why
function barrier:wait(timeout) end

---Raise an error in all waits of the barrier. Afterwards it can be used again.
function barrier:reset() end

---Break the barrier until `reset`.
function barrier:abort() end
