---@meta _
-- Processes
--
-- A process calls one function. It is forked when it starts, so that the function and its arguments
-- may be any values. In a host that has chosen `spawn`, or with `FZLUA_START=spawn`, it is a
-- process of the `fzlua` command, and gets them by value: see [Pools](#pools).

---@class fzlua
local fz = {}

---Make a process that calls `f(...)` after its start.
---
---```lua
---local p <close> = fz.process(function(a, b) return a + b end, 1, 2):start()
---print(p:result(), p:join(), p.exitcode) --> 3 true 0
---```
---@param f function
---@param ... any inherited, not sent, unless the process is spawned
---@return fzlua.Process process
function fz.process(f, ...) end

---The processes that this one has started and that are still running, in the order of their start.
---@return fzlua.Process[] processes
function fz.active_children() end

---@class fzlua.CurrentProcess
---@field name string `"MainProcess"` in the script, `"Process-1"` in its first process,
---`"Worker-PID"` in a worker
---@field pid integer
---@field worker integer|nil number of a worker in its pool or stage, from 1

---The name and pid of this process.
---@return fzlua.CurrentProcess current
function fz.current_process() end

---A process belongs to the process that made it; in other processes its members raise an error. At
---the end of the scope of a `<close>` variable it is joined; an error that leaves the scope ends
---it.
---@class fzlua.Process
---@field name string `"Process-1"` and so on; can be set before the start
---@field daemon boolean true: the end of the script ends the process; false, the default: the
---script waits for it. Can be set before the start
---@field pid integer|nil nil before the start
---@field exitcode integer|nil nil while it runs; 0; 1 if `f` raised; `n` after `os.exit(n)`; `-n`
---if signal n killed it
local process = {}

---Fork the process, which calls the function.
---@return fzlua.Process process
function process:start() end

---Wait until the process has ended.
---@param timeout? number seconds
---@return true|nil ended nil if the time ran out
---@return "timeout"|nil why
function process:join(timeout) end

---Whether the process runs.
---@return boolean alive
function process:is_alive() end

---Wait for the results of the function, which are the same in each call. Raises the error of the
---function, with its traceback, or an error of kind `"crash"`. The process may still run then,
---because it waits for its own processes.
---@param timeout? number seconds; nil, `"timeout"` if it runs out
---@return any ... all results
function process:result(timeout) end

---Send the process SIGTERM, which ends it and its descendants.
function process:terminate() end

---End the process and its descendants with SIGKILL.
function process:kill() end

---End the process if it runs, and drop its results; `pid`, `name` and `exitcode` stay.
function process:close() end
