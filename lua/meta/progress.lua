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
---@param source table|function a list, whose elements are returned; or what a `for` loop takes: an
---iterator and up to three further values, before the options
---@param options? fzlua.ProgressOptions
---@return function iterator
function fz.progress(source, options) end

---The event that a function in the option `progress` gets: it is called in the script's process as
---`f(done, total, event)`. `done` and `total` count the functions of a run, the elements of a list,
---or the items of a stream. After the list of a map in a run is known, its elements are counted
---instead of the map. The last call has `done == total`. If `f` raises an error, the error is
---logged and `f` is not called again. Each attempt has one `start` and one end; a call that never
---ran has only the end.
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
---@field pid integer|nil of the worker; nil: it runs in this process, or never ran
---@field seconds number|nil duration of a call that has begun and ended
---@field cached boolean|nil true: it was not called, because its result was recorded; `kind` is
---`"done"`

---An entry of the list `trace` of a chain or dag: an attempt of a function that has ended. The list
---is in the order of time. A long list keeps at least the newest half million entries. A `.jsonl`
---file has the same fields in one object per line, between `{"event":"begin","time":...}` and
---`{"event":"end","time":...}`, whose `lost` counts the attempts that were not recorded because
---there was no memory. Its lines are written every 0.1 seconds, and are complete, even if the
---process is killed. If the disk is full, this is logged and the run continues. A file that another
---run is writing is an error.
---
---Elements of a map that were answered together have one entry. Times are in seconds since 1970.
---The worker measures the start and the end. For a call that never answered, and for elements of a
---map that were answered before their chunk was done, this process measures them when it is
---notified. A run that a worker makes is not recorded in the trace of its caller. Without the
---option nothing is recorded.
---
---```lua
---local g = fz.dag()
---g:add("a", {}, function() return 1 end)
---g:invoke({}, {trace = true})
---for _, e in ipairs(g.trace) do print(e.event, e.name, e.attempt) end --> done a 1
---```
---@class fzlua.TraceEvent
---@field event "done"|"retry"|"failed"|"cancelled"|"cached" `"retry"`: it failed, and another
---attempt follows; `"cancelled"`: it never ran; `"cached"`: an earlier run has recorded its result
---@field stage string|nil in a chain
---@field name string the outputs of the function; of a map or a call of a pool, in the file of the
---command: the call and the place of its function
---@field item integer|nil in a stream: place of the item
---@field index integer|nil of a map: place of the first element
---@field n integer number of elements; 1 for a function
---@field attempt integer|nil from 1
---@field pid integer|nil of the worker, or of this process
---@field queued number|nil when it could have started
---@field started number
---@field ended number
---@field sent integer|nil bytes of the call
---@field received integer|nil bytes of the results
---@field cpu number|nil seconds of processor time of the function and the programs that it ran; nil
---for a call in this process. For calls of less than 0.2 ms it is estimated from the recent use of
---their worker. Elements of a map that were sent together share it
---@field peak integer|nil peak memory of its worker so far in bytes
---@field init number|nil seconds that `init` of its stage or pool took in the worker, which are a
---part of the time of this call
---@field launch number|nil seconds that the script's process took to start the worker, at the first
---call that the worker measured
---@field node string|nil where the worker is, if that is another machine
---@field error string|nil the kind of its error
---@field message string|nil the text and the traceback of its error
---@field signal integer|nil that ended its worker
---@field exitcode integer|nil of its worker

---The log: one line to standard error for each entry, `HH:MM:SS.mmm LEVEL name[pid]: text`. Lines
---of different processes are never mixed.
---@class fzlua.Log
---@field level "debug"|"info"|"warn"|"error"|"off" the lowest level that is written; can be set.
---Default: the environment variable `FZLUA_LOG`, or `"info"`
fz.log = {}

---Log details that help to find mistakes.
---@param fmt any text, or a format of `string.format`
---@param ... any
function fz.log.debug(fmt, ...) end

---Log an event.
---@param fmt any
---@param ... any
function fz.log.info(fmt, ...) end

---Log a possible mistake.
---@param fmt any
---@param ... any
function fz.log.warn(fmt, ...) end

---Log an error.
---@param fmt any
---@param ... any
function fz.log.error(fmt, ...) end
