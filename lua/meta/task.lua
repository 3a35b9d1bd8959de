---@meta _
-- Tasks and futures
--
-- Tasks are functions that take turns in one process. A task that calls anything that waits lets
-- the other tasks run, without a keyword; outside of tasks the same calls run the tasks meanwhile.
-- The command finishes all tasks before it ends. An error that no call has awaited is logged.

---@class fzlua
local fz = {}

---Make a function a task. It starts when the caller next waits.
---
---```lua
---local function work(n) fz.sleep(n / 100) return n end
---local a, b = fz.spawn(work, 2), fz.spawn(work, 1)
---print(a:await(), b:await()) --> 2 1
---```
---@param f function
---@param ... any
---@return fzlua.Task task a future of the results of `f(...)`
function fz.spawn(f, ...) end

---Wait for a future, as `future:await`; or for all futures of a list.
---@param awaited fzlua.Future|fzlua.Future[]
---@param timeout? number seconds; nil, `"timeout"` if it runs out
---@return any ... all results; of a list, one list with the first result of each, and `n`. The
---error that comes first is raised
function fz.await(awaited, timeout) end

---Wait for all futures. The error that comes first is raised, and cancels the others.
---
---```lua
---local pool <close> = fz.pool(2)
---print(fz.gather(pool:apply_async(math.max, {1, 2}), fz.spawn(function() return "b" end))) --> 2 b
---```
---@param ... fzlua.Future
---@return any ... the first result of each, in order
function fz.gather(...) end

---Iterate over futures in the order in which they are done.
---
---```lua
---local slow, fast = fz.spawn(fz.sleep, 0.05), fz.spawn(fz.sleep, 0)
---for future in fz.as_completed {slow, fast} do print(future == fast) end
---                 --> true
---                 --> false
---```
---@param list fzlua.Future[]
---@return fun(): fzlua.Future iterator
function fz.as_completed(list) end

---Call `f(g)`, and wait until all tasks that were started with `g:spawn` have ended. The first
---error of a task or of `f` is raised, and cancels the other tasks.
---
---```lua
---fz.group(function(g)
---  for i = 1, 3 do g:spawn(fz.sleep, i / 100) end
---end)
---```
---@param f fun(g: fzlua.Group): ...
---@return any ... the results of `f`
function fz.group(f) end

---@class fzlua.Group
local group = {}

---Make a function a task of the group. Raises kind `"closed"` if the group has ended.
---@param f function
---@param ... any
---@return fzlua.Task task
function group:spawn(f, ...) end

---Call `f(...)`; if it takes longer, it is cancelled like a task.
---
---```lua
---print(fz.with_timeout(0.05, fz.sleep, 60)) --> nil timeout
---```
---@param seconds number|nil nil: no limit
---@param f function
---@param ... any
---@return any ... the results of `f`; nil, `"timeout"` if the time ran out
function fz.with_timeout(seconds, f, ...) end

---Wait, and let other tasks run.
---@param seconds number 0: let each task that is ready run once
function fz.sleep(seconds) end

---Wait until a descriptor is ready, so that a read or write would not block.
---@param fd number an integer, or a float such as 5.0, as luasocket's `getfd` returns
---@param mode "r"|"w" to read, or to write
---@param timeout? number seconds
---@return true|nil ready nil if the time ran out
---@return "timeout"|nil why
function fz.wait_fd(fd, mode, timeout) end

---Make a future that the script settles.
---
---```lua
---local f = fz.future()
---fz.spawn(function() f:set_result("done", 1) end)
---print(f:await()) --> done 1
---```
---@return fzlua.Future future
function fz.future() end

---The results of work that may not have ended yet.
---@class fzlua.Future
local future = {}

---Wait for the results, which are the same in each call. Raises the error.
---@param timeout? number seconds; nil, `"timeout"` if it runs out
---@return any ... all results
function future:await(timeout) end

---Whether the future has a result or an error. Does not wait.
---@return boolean done
function future:done() end

---Cancel the work: a task's `<close>` variables are closed, a call or run ends. `await` then raises
---kind `"cancelled"`.
---@return boolean cancelled false: it was done before
function future:cancel() end

---Whether the future has an error, and was not cancelled.
---@return boolean failed
function future:failed() end

---Set the results of a future of `fz.future`. Raises if it is settled.
---@param ... any
function future:set_result(...) end

---Set the error, which may be any value, of a future of `fz.future`.
---@param e any
function future:set_error(e) end

---The future that `fz.spawn` returns. `await` raises what the function raised.
---@class fzlua.Task : fzlua.Future
local task = {}

---The future that calls of a pool return.
---@class fzlua.AsyncResult : fzlua.Future
local result = {}

---The same as `await`.
---@param timeout? number seconds; nil, `"timeout"` if it runs out
---@return any ... all results of the call
function result:get(timeout) end

---Wait until the call is done, without raising its error.
---@param timeout? number seconds
---@return true|nil done nil if the time ran out
---@return "timeout"|nil why
function result:wait(timeout) end

---Whether the call is done. Handles results that have arrived.
---@return boolean ready
function result:ready() end

---Whether the call succeeded.
---@return boolean|nil successful nil while it is not done
function result:successful() end
