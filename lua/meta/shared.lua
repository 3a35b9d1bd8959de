---@meta
-- shared.lua - annotations for editors: shared objects, whose methods are in C (src/bind).
--
-- A timeout is in seconds; without one a call waits without limit. Ctrl-C raises an fz.Error of
-- kind "interrupted" in each waiting call. The names come from Python's multiprocessing.
-- luacheck: ignore

---@class fzlua.Lock
local Lock = {}

---Wait until this process holds the lock.
---@param timeout? number
---@return boolean got false: timeout
---@return "abandoned"? how its holder died without releasing it
function Lock:acquire(timeout) end

---Raises unless this process holds it.
function Lock:release() end

---Call f(...) with the lock held, and release it afterwards, even after an error.
---@param f function
---@return any ... what f returns
function Lock:with(f, ...) end

---Hold the lock until the end of a scope: `local g <close> = lock:guard()`.
---@return table guard with release()
---@return "abandoned"? how
function Lock:guard() end

---@class fzlua.Semaphore
local Semaphore = {}

---@param timeout? number
---@return boolean got false: timeout
function Semaphore:acquire(timeout) end

---Release permits; any process may. A bounded semaphore raises above its initial value.
---@param n? integer default 1
function Semaphore:release(n) end

---@return integer n free permits
function Semaphore:value() end

---@param f function
---@return any ...
function Semaphore:with(f, ...) end

---@return table guard
function Semaphore:guard() end

---@class fzlua.Event
local Event = {}

---Wake all waiting processes; later waits return at once, until clear().
function Event:set() end
function Event:clear() end

---@return boolean
function Event:is_set() end

---@param timeout? number
---@return true? set
---@return "timeout"? why
function Event:wait(timeout) end

---A lock, and processes that wait for a change of what it guards.
---@class fzlua.Condition : fzlua.Lock
local Condition = {}

---Release the lock, sleep until notified, and acquire the lock again. Raises without the lock.
---@param timeout? number
---@return true? notified
---@return "timeout"|"abandoned"? how
function Condition:wait(timeout) end

---Wait until f() is true; f is called with the lock held.
---@param f function
---@param timeout? number
---@return any value the true value of f; nil after a timeout
---@return "timeout"|"abandoned"? how
function Condition:wait_for(f, timeout) end

---Wake the processes that have waited longest. Raises without the lock.
---@param n? integer how many at most, default 1
function Condition:notify(n) end
function Condition:notify_all() end

---@class fzlua.Barrier
---@field parties integer
---@field n_waiting integer
---@field broken boolean
local Barrier = {}

---Wait until `parties` processes wait; the last one calls the action first. A timeout breaks the
---barrier. Raises if the barrier is broken: by a timeout, a process that died waiting, an action
---that raised, or abort().
---@param timeout? number
---@return integer? index how many arrived before this one
---@return "timeout"? why
function Barrier:wait(timeout) end

---Raise an error in all waiting processes; the barrier is usable again.
function Barrier:reset() end

---Break the barrier until reset().
function Barrier:abort() end

---A number of one of string.pack's types: b B h H i I l L j J f d n.
---@class fzlua.Value
---@field value number a read never waits; a write waits while another process is in with()
local Value = {}

---Add in one atomic step. Raises if the sum does not fit.
---@param n number
---@return number value
function Value:add(n) end

---Call f(self) while no other process changes the value.
---@param f fun(v: fzlua.Value): ...
---@return any ...
function Value:with(f) end

---Numbers of one type, from index 1. A read outside of the array gives nil; a write outside, or of
---a number that does not fit, raises. Each number is read and written whole, and never waits for
---with().
---@class fzlua.Array
---@field [integer] number
---@operator len: integer
local Array = {}

---@return number[]
function Array:totable() end

---@param i integer negative: from the end, as in string.sub
---@param j? integer
---@return number[]
function Array:slice(i, j) end

---@param x number
function Array:fill(x) end

---Call f(self) while no other process is in its with().
---@param f fun(a: fzlua.Array): ...
---@return any ...
function Array:with(f) end

---@class fzlua.Queue
local Queue = {}

---Put an item. Waits while a queue with a maxsize is full. Raises "closed", and "unsendable" at
---once.
---@param v any
---@param timeout? number
---@return true? put
---@return "timeout"? why
function Queue:put(v, timeout) end

---@param timeout? number
---@return any v
---@return "timeout"|"closed"? why with nil: none came in time, or none will come
function Queue:get(timeout) end

---@param v any
---@return boolean put false: the queue is full
function Queue:try_put(v) end

---@return boolean taken
---@return any v or "closed" with false: none will come
function Queue:try_get() end

---@return integer n items that were put and not taken
function Queue:size() end

---@return boolean
function Queue:empty() end

---@return boolean full always false without a maxsize
function Queue:full() end

---Report that a taken item is done. Raises if all taken items are done.
function Queue:task_done() end

---Wait until all items are done; items that a dead process had taken count as done.
---@param timeout? number
---@return true? done
---@return "timeout"? why
function Queue:join(timeout) end

---Refuse further items from all processes; the rest can be read.
function Queue:close() end

---One end of a pipe.
---@class fzlua.Pipe
local Pipe = {}

---Send a value; never waits. Raises "closed" if either end is closed.
---@param v any
function Pipe:send(v) end

---@param timeout? number
---@return any v
---@return "timeout"|"closed"? why
function Pipe:recv(timeout) end

---@param timeout? number default 0
---@return boolean ready whether recv() would return at once
function Pipe:poll(timeout) end

---Close this process's end.
function Pipe:close() end
