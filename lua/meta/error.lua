---@meta _
-- Errors

---@class fzlua
local fz = {}

---A table that calls of the library raise; `fz.Error` is its metatable. `tostring(e)` names the
---stage, the output and the place, and ends with the worker's traceback.
---
---| `kind` | Cause |
---|---|---|
---| `"error"` | the user's function raised, or a call in a wrong state |
---| `"crash"` | the worker died; the message says how |
---| `"timeout"` | `timeout` or `deadline` ran out |
---| `"memory"` | more memory than allowed, or none left |
---| `"cancelled"` | the work was cancelled, or depended on a failed function |
---| `"interrupted"` | Ctrl-C |
---| `"unsendable"` | a value cannot cross processes; the message has the path to it |
---| `"closed"` | the object was closed |
---| `"graph"` | a chain or dag that cannot run |
---
---```lua
---local ok, e = pcall(fz.map, function(x) return #x end, {"a", 5})
---print(ok, e.kind, e.index) --> false error 2
---print(e.cause)             --> ...attempt to get length of a number value...
---```
---@class fz.Error
---@field kind string see above
---@field message string
---@field stage string|nil
---@field output string|nil
---@field input string|nil of an error that concerns an input
---@field index integer|nil place in the list or stream
---@field element integer|nil in a stream: place in the list of a map
---@field attempt integer|nil number of the attempt that failed, from 1
---@field node string|nil the machine of the worker, if it is another one
---@field pid integer|nil of the worker, on its machine
---@field signal integer|nil that killed the worker or program
---@field exitcode integer|nil
---@field traceback string|nil of the worker
---@field cause any what the function raised, if it can be sent
---@field others fz.Error[]|nil further errors of the same run or map
fz.Error = {}

---Make an error to raise, with any fields. `kind` and `message` are required.
---@param fields table
---@return fz.Error e
function fz.Error.new(fields) end

---Whether a value is an error of the library, and of a kind.
---
---```lua
---local e = fz.Error.new {kind = "error", message = "too cold"}
---print(fz.Error.is(e), fz.Error.is(e, "timeout"), fz.Error.is "text") --> true false false
---```
---@param value any
---@param kind? string Default: any kind
---@return boolean is
function fz.Error.is(value, kind) end
