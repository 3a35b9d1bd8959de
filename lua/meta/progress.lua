---@meta _
-- Progress and log

---@class fzlua
local fz = {}

---@class fzlua.ProgressOptions
---@field label? string text in front of the line. Default: `"loop"`
---@field total? integer items. Default: the length of a list

---Show the progress of a loop. All values of an iterator are passed on.
---
---```lua
---for x in fz.progress({1, 2, 3}, {label = "numbers"}) do fz.sleep(0.01) end
---```
---@param source table|function a list, whose elements are returned, or an iterator as a loop takes
---it, with up to three more values before the options
---@param options? fzlua.ProgressOptions
---@return function iterator
function fz.progress(source, options) end

---What a function that is given as the option `progress` gets: it is called in the script's process
---as `f(done, total, event)`. `done` and `total` count the functions of a run, with the elements of
---a map in their place once its list is known, or the elements of a list, or the items of a stream.
---The last call has `done == total`. If the function raises, that is logged and it is not called
---again. `pid` and `seconds` are nil for a call that never ran.
---
---```lua
---fz.map(math.sqrt, {1, 4}, {progress = function(done, total, event)
---  if event.kind == "done" then print(done, total, event.kind) end
---                --> 1 2 done
---                --> 2 2 done
---end})
---```
---@class fzlua.ProgressEvent
---@field kind "start"|"done"|"failed"|"retry"
---@field stage string|nil in a chain
---@field output string|nil of a chain or dag: the first output of the function
---@field index integer|nil place in the list or stream; in an invoke, in the list of a map
---@field element integer|nil in a stream: place in the list of a map
---@field pid integer|nil of the worker
---@field seconds number|nil duration of a call that has ended

---The log: one line to standard error for each entry, `HH:MM:SS.mmm LEVEL name[pid]: text`. Lines
---of different processes are never mixed.
---@class fzlua.Log
---@field level "debug"|"info"|"warn"|"error"|"off" the lowest level that is written; can be set.
---Default: the environment variable `FZLUA_LOG`, or `"info"`
fz.log = {}

---Log what helps to find mistakes.
---@param fmt any text, or a format of `string.format`
---@param ... any
function fz.log.debug(fmt, ...) end

---Log what happens.
---@param fmt any
---@param ... any
function fz.log.info(fmt, ...) end

---Log what may be a mistake.
---@param fmt any
---@param ... any
function fz.log.warn(fmt, ...) end

---Log an error.
---@param fmt any
---@param ... any
function fz.log.error(fmt, ...) end
