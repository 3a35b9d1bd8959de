---@meta _
-- Queues and pipes
--
-- A queue or pipe may be inherited, an argument, a result, or an item of another queue: it is the
-- same object in each process. Its items may be all values that can be sent, of any size.

---@class fzlua
local fz = {}

---Make a queue for any number of producers and consumers. The items of each producer stay in order.
---
---```lua
---local q = fz.queue()
---local p = fz.process(function() for i = 1, 3 do q:put(i) end q:close() end):start()
---for item in q.get, q do print(item) end
---                 --> 1
---                 --> 2
---                 --> 3
---```
---@param maxsize? integer maximum number of items in the queue: `put` waits while the queue is
---full. Default: no limit
---@return fzlua.Queue queue
function fz.queue(maxsize) end

---@class fzlua.Queue
local queue = {}

---Put an item. Waits while a queue with a `maxsize` is full. Raises kind `"closed"`, or
---`"unsendable"`.
---@param v any
---@param timeout? number seconds
---@return true|nil put nil if the time ran out
---@return "timeout"|nil why
function queue:put(v, timeout) end

---Take the next item; waits for one.
---@param timeout? number seconds
---@return any v nil if none came
---@return "timeout"|"closed"|nil why `"closed"`: the queue is closed and empty
function queue:get(timeout) end

---Put an item if that is possible without waiting. Raises as `put` does.
---@param v any
---@return boolean put false: the queue is full
function queue:try_put(v) end

---Take an item if there is one.
---@return boolean taken
---@return any v the item; with false `"closed"` if no more will come
function queue:try_get() end

---The number of items that were put and not taken.
---@return integer n
function queue:size() end

---Whether the queue has no items.
---@return boolean empty
function queue:empty() end

---Whether a `put` would wait.
---@return boolean full always false without a `maxsize`
function queue:full() end

---Report that an item that was taken is done. Raises if all are done.
function queue:task_done() end

---Wait until all items that were put are done. Items that a dead process had taken count as done.
---@param timeout? number seconds
---@return true|nil done nil if the time ran out
---@return "timeout"|nil why
function queue:join(timeout) end

---Refuse further items, from all processes. Items in the queue can still be taken.
function queue:close() end

---Make a pipe: two ends, each of which sends and receives.
---
---```lua
---local a, b = fz.pipe()
---a:send {answer = 42}
---print(b:recv().answer) --> 42
---```
---@return fzlua.Pipe a
---@return fzlua.Pipe b
function fz.pipe() end

---@class fzlua.Pipe
local connection = {}

---Send a value; never waits. Raises kind `"closed"` if either end is closed, or `"unsendable"`.
---@param v any
function connection:send(v) end

---Receive the next value; waits for one.
---@param timeout? number seconds
---@return any v nil if none came
---@return "timeout"|"closed"|nil why `"closed"`: no living process uses the other end
function connection:recv(timeout) end

---Whether `recv` would return at once.
---@param timeout? number seconds to wait for that. Default: 0
---@return boolean ready
function connection:poll(timeout) end

---Close this process's end.
function connection:close() end
