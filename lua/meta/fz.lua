---@meta fzlua
-- The module
--
-- `fz` is the global of the command, and what `require "fzlua"` returns. These rules hold for all
-- calls:
--
-- - Durations are in seconds, integers or floats. A `timeout` that is nil means: wait without
--   limit.
-- - If the time runs out, a call returns `nil, "timeout"`; an acquire of a lock or semaphore
--   returns `false`. A read from a closed queue or pipe returns `nil, "closed"`.
-- - A wrong argument or option raises a string with the position of the caller, as the functions of
--   Lua do. All other failures raise an [fz.Error](#fzerror).
-- - An unknown option is an error, so that a misspelt one is not ignored.
-- - Each call that waits lets the tasks of the process run, and can be interrupted by Ctrl-C, which
--   raises an error of kind `"interrupted"`.
-- - A wait without a timeout that nothing can end, in this process or another, raises an error. The
--   error lists what each task waits for.
-- - Objects with a method `close` can be the value of a `<close>` variable.

---@class fzlua
local fz = {}

---A clock that never goes back. Only differences have a meaning.
---
---```lua
---local start = fz.now()
---fz.sleep(0.01)
---print(fz.now() - start >= 0.01) --> true
---```
---@return number seconds
function fz.now() end

---@class fzlua.CpuCountOptions
---@field physical? boolean true: count cores, not hardware threads

---The number of processors that this process may use: the number in its affinity mask, or the limit
---of its cgroup if that is lower. It is the default of `jobs` and of the workers of a pool.
---@param options? fzlua.CpuCountOptions
---@return integer count at least 1
function fz.cpu_count(options) end

_G.fz = fz -- the global of the command

return fz
