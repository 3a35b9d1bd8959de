--- trace.lua - fzlua.Trace: records of the attempts of calls, as a list and in a file.
--
-- core.trace has the records. This module names what they are about: functions of a plan, and calls
-- of a map or a pool by the place of their function. A trace of the command (--trace) is in
-- fzlua.defaults, and gets the calls of the whole script. A trace of an invoke or a stream has
-- those of one run.

local core = require "fzlua.core"
local command_line = require "fzlua.defaults"
local log = require "fzlua.log"

---@class fzlua.Trace a list of records, see fzlua.TraceEvent
---@field _records userdata
local Trace = { __name = "fzlua.Trace", __fzpack = false } -- cannot be sent

---@param path string|true the name of a file, whose end is its format; true: none
---@param keeps boolean whether it is a list, too
---@return fzlua.Trace
function Trace.open(path, keeps)
  local file = path ~= true and path or nil
  local records = core.trace(file, file and file:match "[^.]*$", keeps)
  return setmetatable({ _records = records }, Trace)
end

-- The names of the functions of a plan, by node.
local function names_of(plan)
  plan.trace_names = plan.trace_names or core.trace_names(plan.nodes)
  return plan.trace_names
end

---Make the trace of an invoke or a stream, or use that of the command. Sets the options for the
---engine in `options`, whose field `trace` is the user's.
---@param plan fzlua.Plan
---@param options table
---@return fzlua.Trace|nil of this run alone
function Trace.start(plan, options)
  local own = options.trace and options.trace ~= command_line.trace
    and Trace.open(options.trace, true) or nil
  local trace = own or options.trace
  options.trace = trace and trace._records or nil
  options.trace_names = trace and names_of(plan) or nil
  return own
end

-- Names by label.
local calls = {}

---What a batch needs for the trace of the command.
---@param what string the call, as the user writes it
---@param f function
---@return userdata|nil records, userdata|nil names; nil without --trace
function Trace.of_call(what, f)
  local trace = command_line.trace
  if not trace then return nil end
  local info = debug.getinfo(f, "S")
  local label = what
  if info.what ~= "C" and info.source:sub(1, 7) ~= "@fzlua/" then
    label = ("%s %s:%d"):format(what, info.short_src, info.linedefined)
  end
  calls[label] = calls[label] or core.trace_names { { outputs = { label } } }
  return trace._records, calls[label]
end

---End the file. What it lacks is logged, because the results of the run are there.
function Trace:close()
  local e = self._records:close()
  if e then log.warn("%s; the trace is incomplete", e.message) end
end

function Trace:__len()
  return self._records:count()
end

function Trace:__index(key)
  if math.type(key) == "integer" then return rawget(self, "_records"):get(key) end
  return Trace[key]
end

function Trace:__tostring()
  return ("fzlua.Trace (%d events)"):format(#self)
end

return Trace
