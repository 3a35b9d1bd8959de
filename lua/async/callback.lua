--- callback.lua - calls callbacks of the user. An error in one does not end the pool or the run.

local core = require "fzlua.core"
local Error = require "fzlua.error"
local log = require "fzlua.log"

local callback = {}

local function traced(e)
  return Error.is(e, "interrupted") and e or core.traceback(core.error_text(e), 2)
end

---Call f(...). An error of `f` is logged, but Ctrl-C is raised.
---@param what string the noun of the log line
---@param f function
---@return boolean ok, any result the first result
function callback.call(what, f, ...)
  local ok, e = xpcall(f, traced, ...)
  if not ok and Error.is(e, "interrupted") then error(e, 0) end
  if not ok then log.error("%s raised: %s", what, e) end
  return ok, e
end

---Call `f`, the option retry_if: whether a failed job is retried. False if `f` raises.
---@param f fun(e: fz.Error): boolean
---@param e fz.Error
---@return boolean
function callback.retry_if(f, e)
  local ok, answer = callback.call("a retry_if function", f, e)
  return ok and not not answer
end

---Wrap a progress function so that it is not called again after its first error.
---@param f nil|boolean|fun(done: integer, total: integer, event: table)
---@return nil|fun(done: integer, total: integer, event: table) nil unless f is a function
function callback.progress(f)
  if type(f) ~= "function" then return nil end
  local failed = false
  return function(...)
    failed = failed or not callback.call("a progress function", f, ...)
  end
end

return callback
