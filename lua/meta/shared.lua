---@meta
-- shared.lua - what processes share, for editors: its methods are in C (src/bind).
--
-- A timeout is in seconds; without one a call waits for ever. Ctrl-C raises an fz.Error of
-- kind "interrupted" in each that waits. The names are those of Python's multiprocessing.
-- luacheck: ignore

---@class fzlua.Lock
local Lock = {}

---Wait until this process has it.
---@param timeout? number
---@return boolean got false: the time ran out
---@return "abandoned"? how its holder died and left what it guards as it was
function Lock:acquire(timeout) end

---Raises unless this process holds it.
function Lock:release() end

---Call f(...) while holding it; it is released whatever f does.
---@param f function
---@return any ... what f returns
function Lock:with(f, ...) end

---Hold it until the end of a scope: `local g <close> = lock:guard()`.
---@return table guard with release()
---@return "abandoned"? how
function Lock:guard() end

---@class fzlua.Semaphore
local Semaphore = {}

---@param timeout? number
---@return boolean got false: the time ran out
function Semaphore:acquire(timeout) end

---Any process may; a bounded one raises above what it began with.
---@param n? integer how many, 1
function Semaphore:release(n) end

---@return integer n how many are free
function Semaphore:value() end

---@param f function
---@return any ...
function Semaphore:with(f, ...) end

---@return table guard
function Semaphore:guard() end

---@class fzlua.Event
local Event = {}

---All that wait go on, and those that come later, until clear().
function Event:set() end
function Event:clear() end

---@return boolean
function Event:is_set() end

---@param timeout? number
---@return true? set
---@return "timeout"? why
function Event:wait(timeout) end

---A lock and those who wait for a change of what it guards.
---@class fzlua.Condition : fzlua.Lock
local Condition = {}

---Let the lock go, sleep until notified, and have the lock again. Raises without the lock.
---@param timeout? number
---@return true? notified
---@return "timeout"|"abandoned"? how
function Condition:wait(timeout) end

---Wait until f() is true; it is called with the lock held.
---@param f function
---@param timeout? number
---@return any value the one of f, which is true; nil where the time ran out
---@return "timeout"|"abandoned"? how
function Condition:wait_for(f, timeout) end

---Wake those that wait longest. Raises without the lock.
---@param n? integer how many at most, 1
function Condition:notify(n) end
function Condition:notify_all() end

---@class fzlua.Barrier
---@field parties integer
---@field n_waiting integer
---@field broken boolean
local Barrier = {}

---Wait until as many as it is for have come; the last one calls its action before. A wait that runs
---out breaks the barrier. Raises if it is broken: by a wait that ran out, a process that died
---waiting, an action that raised, or abort().
---@param timeout? number
---@return integer? index how many came before this one
---@return "timeout"? why
function Barrier:wait(timeout) end

---Those that wait get the error; it is as new.
function Barrier:reset() end

---Break it until reset().
function Barrier:abort() end

---A number of one of string.pack's types: b B h H i I l L j J f d n.
---@class fzlua.Value
---@field value number reading does not wait; writing does, while another process is in with()
local Value = {}

---In one step. Raises where the sum does not fit.
---@param n number
---@return number value
function Value:add(n) end

---Call f(self) while no other process changes it.
---@param f fun(v: fzlua.Value): ...
---@return any ...
function Value:with(f) end

---Numbers of one type, from 1. Reading outside gives nil; writing outside, or a number that does
---not fit, raises. Each is read and written whole, without waiting for with().
---@class fzlua.Array
---@field [integer] number
---@operator len: integer
local Array = {}

---@return number[]
function Array:totable() end

---@param i integer from the end where negative, as in string.sub
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

---Waits for room where the queue has a maxsize. Raises "closed", and "unsendable" at once.
---@param v any
---@param timeout? number
---@return true? put
---@return "timeout"? why
function Queue:put(v, timeout) end

---@param timeout? number
---@return any v
---@return "timeout"|"closed"? why with nil: there was none, or there will be no more
function Queue:get(timeout) end

---@param v any
---@return boolean put false: it is full
function Queue:try_put(v) end

---@return boolean taken
---@return any v or "closed" with false: there will be no more
function Queue:try_get() end

---@return integer n items that were put and not taken
function Queue:size() end

---@return boolean
function Queue:empty() end

---@return boolean full never without a maxsize
function Queue:full() end

---An item that was taken is done. Raises when all that were taken are.
function Queue:task_done() end

---Wait until all that was put is done; what a dead process had taken counts as that.
---@param timeout? number
---@return true? done
---@return "timeout"? why
function Queue:join(timeout) end

---For all processes: no more is put, what is in it can be read.
function Queue:close() end

---One end of a pipe.
---@class fzlua.Pipe
local Pipe = {}

---Never waits. Raises "closed" where this end is, or the other one is over.
---@param v any
function Pipe:send(v) end

---@param timeout? number
---@return any v
---@return "timeout"|"closed"? why
function Pipe:recv(timeout) end

---@param timeout? number 0
---@return boolean ready whether recv() would return at once
function Pipe:poll(timeout) end

---This process's end.
function Pipe:close() end
