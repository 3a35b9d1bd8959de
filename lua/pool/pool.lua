--- pool.lua - fz.pool: workers that execute many calls.
--
-- The engine has the workers and sends them batches. This module checks arguments, and settles the
-- results of asynchronous calls.

local AsyncResult = require "fzlua.async_result"
local Error = require "fzlua.error"
local Imap = require "fzlua.imap"
local ItemCache = require "fzlua.item_cache"
local Mapping = require "fzlua.mapping"
local Trace = require "fzlua.trace"
local callback = require "fzlua.callback"
local check = require "fzlua.check"
local defaults = require "fzlua.defaults"
local core = require "fzlua.core"
local engine_url = require "fzlua.engine_url"
local folding = require "fzlua.folding"
local lists = require "fzlua.lists"
local made = require "fzlua.made"
local source = require "fzlua.source"
local wait = require "fzlua.wait"

local Pool = {}
Pool.__name = "fzlua.Pool"
Pool.__fzpack = false -- a pool cannot be sent to another process

-- The maximum number of arguments that fit on the stack of a function.
local ARGUMENTS_MAX <const> = 900000

local NO_OPTIONS <const> = {}

-- Pools that must not be collected -> number of pending results with callbacks.
local kept = {}

---A pool of worker processes.
---@param options? integer|table number of workers, or: workers, init, exit, idle, max_tasks,
---timeout, retries, backoff, memory, retry_if, on_error, seed, progress, inflight. A worker calls
---`init` before its first job, and `exit` when it ends normally; `idle` is in seconds
---@param here? boolean used by this library: call all functions in this process
---@return fzlua.Pool
function Pool.new(options, here)
  if math.type(options) then options = { workers = options } end
  options = check.options(options, check.POOL, 1, "fz.pool")
  for name, value in pairs(defaults) do
    if check.POOL[name] and options[name] == nil then options[name] = value end
  end
  local workers = options.workers or defaults.jobs or engine_url.slots(options.engine)
  if here or defaults.jobs == 0 then workers = 0 end
  options.given_seed = options.seed
  options.seed = options.seed or core.random_seed()
  options.on_error = options.on_error or "stop"
  made.used = true
  local slots <close> = core.slots(workers) -- the pool keeps the slots
  local exit_function = options.exit -- so that `options` is not an upvalue of the function below
  local exit = exit_function
    and function() callback.call("an exit function", exit_function) end
  local self = setmetatable({
    _options = options, _limits = false, _exit = exit, _size = workers, _results = {}, _calls = 0,
    _closed = false, _imaps = setmetatable({}, { __mode = "k" }),
    _core = core.pool {
      funcs = {}, init = options.init, batches = true, max_tasks = options.max_tasks,
      workers = workers, slots = slots, seed = options.seed, idle = options.idle,
      exit = exit, start = options.start, engine = options.engine,
    },
  }, Pool)
  for _, name in ipairs(check.LIMITS) do -- most pools set no limits, and need no table for them
    if options[name] ~= nil then
      self._limits = self._limits or {}
      self._limits[name] = options[name]
    end
  end
  self._direct = workers > 0 and not options.retry_if and not options.cache
  return self
end

function Pool:__index(name)
  if name ~= "workers" then return Pool[name] end
  -- With the option `idle`, workers end when they are idle: a query must not start new ones.
  if not self._closed and not self._options.idle then self._core:fill() end
  return self._core:workers()
end

local function check_self(self, what)
  if getmetatable(self) ~= Pool then check.no_self("pool", what) end
end

local function open(self, what)
  check_self(self, what)
  if self._closed then
    Error.raise("closed", "%s: the pool is closed", what)
  end
  return self._core
end

-- The options of one call, completed with those of the pool. A call without a seed of its own gets
-- other random numbers than earlier calls.
local function options_of(self, given, allowed, arg, what)
  local options = check.options(given, allowed, arg, what)
  options.given_seed = options.seed
  if options.seed == nil then
    self._calls = self._calls + 1
    options.seed = self._options.seed + self._calls
    options.given_seed = self._options.given_seed and options.seed
  end
  for name, value in pairs(self._options) do
    if options[name] == nil and allowed[name] then options[name] = value end
  end
  return options
end

-- Put the number of the result before the message of an error.
local function name_error(e)
  if Error.is(e) and e.result then
    Error.about(e, "result " .. e.result)
    e.result = nil
  end
  return e
end

-- The outcome of a batch with one call, in the form for AsyncResult:settle().
local function outcome(batch, ok, ...)
  if ok then return true, ... end
  if ok == nil then return false, batch:whole() end
  return false, name_error((...))
end

-- One running call. Either pool:apply() waits for it, or it is the owner of an AsyncResult.
local Call = {}
Call.__index = Call

local function new_call(batch, f)
  local retry_if = f and function(e)
    e.index = nil -- the call is not an element of a list
    return f(e)
  end
  return setmetatable({ batch = batch, _retry_if = retry_if, _closed = false }, Call)
end

function Call:id()
  return self.batch:id()
end

---Decide whether a failed call is retried.
function Call:pump()
  if not self._retry_if or self._pumping or self._closed then return end
  self._pumping = wait.pumper()
  local _ <close> = setmetatable({}, { __close = function() self._pumping = nil end })
  Mapping.decide_retries(self, self.batch, self._retry_if)
end

function Call:done()
  return self._closed or not self._pumping and self.batch:done()
end

function Call:outcome()
  local batch <close> = self.batch
  return outcome(batch, batch:result())
end

function Call:cancel()
  self._closed = true
  self.batch:close()
end

Call.__close = Call.cancel

local function raise_or_return(ok, ...)
  if not ok then error(name_error((...)), 0) end
  return ...
end

-- The options of one call of `f`. They include the trace of the command if there is one.
local function traced(options, what, f)
  local trace, names = Trace.of_call(what, f)
  if not trace then return options or nil end
  local copy = { trace = trace, trace_names = names }
  for key, value in pairs(options or {}) do copy[key] = value end
  return copy
end

local function apply(self, pool, f, ...)
  local retry_if, options = self._options.retry_if, traced(self._limits, "pool:apply", f)
  if self._size > 0 and not retry_if and wait.alone() then
    return raise_or_return(core.apply(pool, f, options, ...))
  end
  local batch = core.call(pool, f, options, ...)
  local call <close> = new_call(batch, retry_if)
  wait.until_done(retry_if and call or batch)
  return raise_or_return(call:outcome())
end

local function record(cache, ...)
  cache:record(1, ...)
  cache:release()
  return ...
end

-- The cache for a call of `f`, if the pool or the call has the option `cache`. The option --resume
-- alone does not suffice, because a script may repeat a call to see what has changed.
local function cache_of(self, what, f, options)
  local wanted = options.cache
  if wanted == nil then wanted = self._options.cache end
  if not wanted then return nil end
  return ItemCache.new({ cache = true, resume = self._options.resume, call = what,
    version = options.version, given_seed = options.given_seed, init = self._options.init }, f,
    "call")
end

-- Call f(...) in a worker, and wait for all its results. The first lines are a fast path for the
-- most frequent call, because the other lines would take longer than the call itself takes in the
-- engine.
function Pool:apply(f, ...)
  if getmetatable(self) == Pool and self._direct and not self._closed and not defaults.trace
      and type(f) == "function" and wait.alone() then
    return raise_or_return(core.apply(self._core, f, self._limits or nil, ...))
  end
  local pool = open(self, "pool:apply")
  if type(f) ~= "function" then check.type(f, "function", 1, "pool:apply") end
  local cache = self._options.cache and cache_of(self, "pool:apply", f, NO_OPTIONS)
  if not cache then return apply(self, pool, f, ...) end
  local _ <close> = setmetatable({}, { __close = function() cache:release() end })
  local bytes = cache:find(1, ...)
  if not bytes then return record(cache, apply(self, pool, f, ...)) end
  local batch = core.known_call(pool, traced(nil, "pool:apply", f), bytes)
  local call <close> = new_call(batch)
  wait.until_done(batch)
  return raise_or_return(call:outcome())
end

local function forget(self, id)
  local result = self._results[id]
  if not result then return nil end
  self._results[id] = nil
  wait.unwatch(id)
  if result._kept then
    kept[self] = kept[self] > 1 and kept[self] - 1 or nil
  end
  return result
end

-- Make an AsyncResult for a batch. The pool settles it when the batch is done.
local function promise(self, batch, owner, options)
  local result = AsyncResult.new(owner, options)
  result._pool = self
  local id = batch:id()
  wait.watch_loosely(id, self)
  self._results[id], result._id = result, id
  result._cancel = function()
    forget(self, id)
    if result._cache then result._cache:release() end
    owner:cancel()
  end
  if options.callback or options.error_callback then
    kept[self] = (kept[self] or 0) + 1
    result._kept = true
  end
  return result
end

-- Convert the results of pcall(outcome). The call of outcome() raises if an __fzunpack raises.
local function unprotect(ok, ...)
  if ok then return ... end
  return false, (...)
end

local function settle(self, id)
  local result = forget(self, id)
  if not result then return end
  result._pumping = wait.pumper() -- an __fzunpack that waits for this result raises an error
  local values = table.pack(unprotect(pcall(result._owner.outcome, result._owner)))
  result._pumping = nil
  if result._cache then
    if values[1] then
      result._cache:record(1, table.unpack(values, 2, values.n))
    elseif Error.is(values[2]) then
      result._cache:fail(1, values[2])
    end
    result._cache:release()
  end
  result:settle(table.unpack(values, 1, values.n))
end

-- Report the events of a map. An error, such as a lack of memory, fails only this map.
local function report_progress(self, result)
  if result:done() then return end
  local ok, e = pcall(result._owner.pump, result._owner)
  if ok then return end
  if Error.is(e, "interrupted") then error(e, 0) end
  forget(self, result._id)
  result._owner:cancel()
  result:settle(false, e)
end

---Report the progress and the end of the batch `id`. Called by wait.lua after a change of the
---batch.
---@param id integer
function Pool:pump(id)
  local result = self._results[id]
  if not result then return end
  if result._progressing then report_progress(self, result) end
  -- A callback of the result may have waited, which called this function, too. So check again.
  if self._results[id] and result._owner:done() then settle(self, id) end
end

function Pool:apply_async(f, args, options)
  local what = "pool:apply_async"
  local pool = open(self, what)
  check.type(f, "function", 1, what)
  args = args == nil and {} or lists.readable(check.type(args, "table", 2, what))
  local n = lists.length(args)
  if n > ARGUMENTS_MAX then
    check.fail("bad argument #2 to '%s' (%d arguments are too many)", what, n)
  end
  options = options_of(self, options, check.APPLY, 3, what)
  local cache = cache_of(self, what, f, options)
  local bytes = cache and cache:find(1, table.unpack(args, 1, n))
  local batch = bytes and core.known_call(pool, traced(options, what, f), bytes)
    or core.call(pool, f, traced(options, what, f), table.unpack(args, 1, n))
  local result = promise(self, batch, new_call(batch, options.retry_if), options)
  result._cache = cache
  result._progressing = options.retry_if ~= nil
  return result
end

local function start_map(self, what, kind, f, list, options, allowed)
  local pool = open(self, what)
  check.type(f, "function", 1, what)
  check.type(list, "table", 2, what)
  options = options_of(self, options, allowed, 3, what)
  options.async, options.call = allowed == check.MAP_ASYNC, what
  return Mapping.start(pool, kind, f, lists.readable(list), options), options
end

local function map_async(self, what, kind, f, list, options)
  local mapping, checked = start_map(self, what, kind, f, list, options, check.MAP_ASYNC)
  local result = promise(self, mapping.batch, mapping, checked)
  result._progressing = type(checked.progress) == "function" or checked.retry_if ~= nil
    or mapping._cache
  return result
end

function Pool:map(f, list, options)
  return start_map(self, "pool:map", "map", f, list, options, check.MAP):wait()
end

function Pool:starmap(f, list, options)
  return start_map(self, "pool:starmap", "starmap", f, list, options, check.MAP):wait()
end

function Pool:map_async(f, list, options)
  return map_async(self, "pool:map_async", "map", f, list, options)
end

function Pool:starmap_async(f, list, options)
  return map_async(self, "pool:starmap_async", "starmap", f, list, options)
end

local function imap(self, what, f, ordered, ...)
  local pool = open(self, what)
  check.type(f, "function", 1, what)
  local from, options = source.arguments(what, 2, ...)
  options = options_of(self, options, check.IMAP, 3, what)
  options.workers, options.call = math.max(self._size, 1), what
  return Imap.new(self, pool, f, from, ordered, options)
end

-- Iterate over the results in the order of the source. The source is read only as far as needed.
function Pool:imap(f, ...)
  return imap(self, "pool:imap", f, true, ...)
end

-- Same as pool:imap(), but in the order in which results arrive.
function Pool:imap_unordered(f, ...)
  return imap(self, "pool:imap_unordered", f, false, ...)
end

---@private
function Pool:_fold(what, f, items, init, merge, options, inherits)
  check.type(merge, "function", 4, what)
  local from = source.arguments(what, 2, items)
  inherits = inherits and self._core:inherits()
  local list = inherits and type(items) == "table" and from.n and items or nil
  local fold = folding.new(from, list)
  local worker = folding.worker(f, init, list)
  if options.progress == nil then options.progress = self._options.progress end
  local shown = options.progress == true and fold:show(what)
  local _ <close> = shown and setmetatable({}, { __close = function() shown:finish() end })
  options.progress = fold:progress(options.progress)
  options.on_error, options.inflight = "continue", 2 * math.max(self._size, 1)
  options.cache = false -- do not record: an accumulator is not the result of an item
  options.retry_if = fold:retry_if(options.retry_if or self._options.retry_if)
  return fold:merge(merge, init,
    imap(self, what, worker, true, function() return fold:next() end, options))
end

-- Fold the items in workers, then merge the results of consecutive items in their order.
function Pool:fold(f, items, init, merge, options)
  open(self, "pool:fold")
  check.type(f, "function", 1, "pool:fold")
  options = check.options(options, check.FOLD, 5, "pool:fold")
  return self:_fold("pool:fold", f, items, init, merge, options)
end

-- Refuse new work. Submitted work goes on.
function Pool:close()
  check_self(self, "pool:close")
  self._closed = true
  if self._core:pending() ~= 0 then return end
  if self._exit then self._core:dismiss() else self._core:close() end
end

-- Cancel all work and end all workers at once.
function Pool:terminate()
  check_self(self, "pool:terminate")
  local ids = {}
  for id in pairs(self._results) do ids[#ids + 1] = id end
  table.sort(ids) -- cancel in the order in which the calls were made
  for _, id in ipairs(ids) do
    local shown = self._results[id]._owner._shown
    if shown then shown:finish() end
  end
  self._core:close()
  self._closed = true
  for _, id in ipairs(ids) do self:pump(id) end
end

-- All work of the pool: the object for which join() waits first.
local Work = {}
Work.__index = Work

function Work:done()
  local pool = self.pool
  return pool._core:pending() == 0 and next(pool._results) == nil
end

-- The end of all workers: the object for which join() waits next, if workers call an exit function.
local Leaving = {}
Leaving.__index = Leaving

function Leaving:done()
  return self.pool._core:workers()[1] == nil
end

-- Begin a wait of `timeout` seconds. Returns a function that returns the number of seconds left.
local function countdown(timeout)
  local deadline = timeout and core.now() + timeout
  return function() return deadline and math.max(deadline - core.now(), 0) end
end

-- Call the exit function here for a pool without workers, because this process has called init.
local function leave(self)
  local exit = self._core:begun() and self._exit
  self._exit = nil
  if exit then exit() end
end

-- After close() or terminate(): wait until all work is done and the workers have ended.
function Pool:join(timeout)
  check_self(self, "pool:join")
  if timeout ~= nil then check.seconds(timeout, 1, "pool:join") end
  if not self._closed then
    Error.raise("error", "pool:join: call close() or terminate() first")
  end
  if self._core:calling() then
    Error.raise("error",
      "pool:join: called by one of the pool's own calls, it would wait for itself")
  end
  for reader in pairs(self._imaps) do reader:stop_reading() end
  local left = countdown(timeout)
  local ok, why = wait.until_done(setmetatable({ pool = self }, Work), left())
  if ok and self._exit then
    self._core:dismiss()
    ok, why = wait.until_done(setmetatable({ pool = self }, Leaving), left())
  end
  if not ok then return nil, why end
  if self._size == 0 then leave(self) end
  self._core:close()
  return true
end

function Pool:__close(e)
  if e ~= nil then return self:terminate() end
  self:close()
  self:join()
end

function Pool:__tostring()
  return ("fzlua.Pool (%d workers%s)"):format(self._size, self._closed and ", closed" or "")
end

return Pool
