--- pipeline.lua - the common part of chains and dags: input, invoke, output, close.
--
-- This is a base class. A subclass has _compile() -> plan, _compile_only(wanted) -> a plan of some
-- functions, _states() -> the states of the pools, and the field `_options`.

local Invocation = require "fzlua.invocation"
local StagePools = require "fzlua.stage_pools"
local Stream = require "fzlua.stream"
local Trace = require "fzlua.trace"
local check = require "fzlua.check"
local made = require "fzlua.made"
local source = require "fzlua.source"
local wait = require "fzlua.wait"

local max, min, remove = math.max, math.min, table.remove

---@class fzlua.Pipeline
---@field input table
---@field output table the values that left the last stage in the last invoke
---@field errors table<string, fz.Error> of the last invoke, by output
---@field trace fzlua.Trace|nil of the last invoke or stream that had the option `trace`
local Pipeline = {}

---A table of the methods that users and invocations call. A class adds its own methods to this
---table.
---@return table<string, function>
function Pipeline.methods()
  return {
    invoke = Pipeline.invoke,
    invoke_async = Pipeline.invoke_async,
    stream = Pipeline.stream,
    prune = Pipeline.prune,
    reset = Pipeline.reset,
    close = Pipeline.close,
    _ended = Pipeline._ended,
    _plan_of = Pipeline._plan_of,
    _defaults_of = Pipeline._defaults_of,
  }
end

---Set the fields of `self`, which has no metatable yet. All fields are set here, because a later
---assignment to a missing field calls set().
function Pipeline.init(self, options)
  self._input, self._output, self._errors = {}, {}, {}
  self._options = options
  self._workers = StagePools.new()
  self._plan, self._plan_key, self._layers, self._trace = false, false, false, false
  self._last = false -- the last invocation, if it kept the values that left each stage; else false
  self._state_list = false -- states of the stages of a chain; false until the first use
  self._continues = false -- whether on_error of the last invoke is "continue"
  self._live = {} -- invocations in progress, in the order of their start
  self._streams = setmetatable({}, { __mode = "k" }) -- streams that are not closed
  made.pipeline = true
  return self
end

local function check_self(self, what)
  if type(self) ~= "table" or rawget(self, "_workers") == nil then
    check.no_self("chain or dag", what)
  end
end

-- The number of workers of each pool. It depends only on `jobs`, because other invokes of the chain
-- may use the pool at the same time. The engine starts a worker only when a job can run on it at
-- once.
local function worker_counts(plan, states, jobs)
  local most, pools, counts = min(max(jobs, 1), check.WORKERS_MAX), plan.pools, {}
  for i = 1, #pools do counts[i] = states[pools[i].layer].options.workers or most end
  return counts
end

local function add_workers(self, plan, states, counts, engine, entries, cache)
  local workers, pools = self._workers, plan.pools
  for i = 1, #pools do
    local pool = pools[i]
    local state = states[pool.layer]
    entries[i] = workers:acquire(state.registry, counts[i], pool.funcs, state.options, engine,
      cache and cache.keys:code(pool.layer))
  end
end

local function acquire_workers(self, plan, states, counts, engine, cache)
  local entries = {}
  local ok, e = pcall(add_workers, self, plan, states, counts, engine, entries, cache)
  if not ok then
    for _, entry in ipairs(entries) do StagePools.release(entry) end
    if cache then cache:detach() end
    error(e, 0)
  end
  return entries
end

-- The defaults for invokes, made of the options of the chain and of its stages. They are kept with
-- the plan.
local function defaults_of(self, plan, states)
  if not plan.defaults then
    local list = { self._options }
    for i, state in ipairs(states) do list[i + 1] = state.options end
    plan.defaults = Invocation.defaults(list)
  end
  return plan.defaults
end

---The defaults for all invokes that use a plan.
---@param plan fzlua.Plan
---@return table
function Pipeline:_defaults_of(plan) return defaults_of(self, plan, self:_states()) end

---The plan of all outputs, or of some outputs.
---@param outputs string[]|nil sorted, as check.option("outputs") returns them
---@return fzlua.Plan
function Pipeline:_plan_of(outputs)
  local plan = self:_compile()
  if not outputs then return plan end
  return plan:narrow(outputs, function(wanted) return self:_compile_only(wanted) end)
end

local function cache_of(plan, states, merged)
  if not (plan.caches or merged.cache or merged.resume) then return nil end
  return require "fzlua.call_cache".new(plan, states, merged)
end

-- Start a run. An invoke of small functions spends most of its time in this function: see the row
-- "invoke" of the benchmarks.
local function start(self, what, input, given)
  check_self(self, what)
  if input ~= nil then self._input = check.type(input, "table", 1, what) end
  given = check.options(given, check.INVOKE, 2, what)
  self._output, self._errors, self._layers, self._trace = {}, {}, false, false
  self._last = false
  local plan = Pipeline._plan_of(self, given.outputs)
  local states = self._state_list or self:_states()
  plan:check_inputs(self._input)
  plan:check_outputs(self._input)
  local merged = Invocation.shared_options(given, defaults_of(self, plan, states))
  if merged.trace ~= nil or merged.report then merged.own_trace = Trace.start(plan, merged) end
  self._trace = merged.own_trace or false
  self._workers:share(merged.jobs)
  local counts = worker_counts(plan, states, merged.jobs)
  local cache = cache_of(plan, states, merged)
  local entries = acquire_workers(self, plan, states, counts, merged.engine, cache)
  local invocation = Invocation.start(self, plan, entries, self._input, given, merged, cache)
  if not invocation.future._state then self._live[#self._live + 1] = invocation end
  return invocation
end

function Pipeline:_ended(invocation, output, errors)
  local live, options = self._live, invocation.options
  for i = 1, #live do
    if live[i] == invocation then
      remove(live, i)
      break
    end
  end
  self._output, self._errors = output, errors
  self._layers = invocation.layers
  if self._layers and self._changes then
    self._last = { plan = invocation.plan, layers = self._layers, input = invocation.input }
    Trace.add_changes(options, function() return self:_changes(self._last) end)
  end
  if options.own_trace then options.own_trace:close() end
  self._continues = options.on_error == "continue"
end

-- Run all functions in workers and wait. Returns self: the results are in `output`.
function Pipeline:invoke(input, options)
  start(self, "invoke", input, options):wait()
  return self
end

function Pipeline:invoke_async(input, options)
  local invocation = start(self, "invoke_async", input, options)
  invocation:watch()
  return invocation.future
end

---Same as invoke(), but returns the output table.
---@return table
function Pipeline:call(input, options)
  return start(self, "invoke", input, options):wait()
end

-- The maximum number of items in the window if the option `inflight` is not set: twice the number
-- of functions that can run at once.
local function first_limit(jobs, counts)
  local workers = 0
  for _, count in ipairs(counts) do workers = workers + count end
  return math.max(2 * math.min(jobs, workers), 1)
end

-- Run all functions for each item of a source. Different items are in work at the same time.
function Pipeline:stream(first, ...)
  check_self(self, "stream")
  local from, given = source.arguments("stream", 1, first, ...)
  given = check.options(given, check.STREAM, 2, "stream")
  local plan, states = Pipeline._plan_of(self, given.outputs), self:_states()
  local merged = Invocation.options(given, defaults_of(self, plan, states))
  local counts = worker_counts(plan, states, merged.jobs)
  merged.fixed = true -- a stream does not change the size of its window; an imap does
  merged.limit = merged.inflight or first_limit(merged.jobs, counts)
  merged.own_trace = Trace.start(plan, merged)
  self._trace = merged.own_trace or false
  self._workers:share(merged.jobs)
  local cache = cache_of(plan, states, merged)
  local entries = acquire_workers(self, plan, states, counts, merged.engine, cache)
  return Stream.new(self, plan, entries, from, given, merged, cache)
end

function Pipeline:prune()
  check_self(self, "prune")
  self._input, self._output, self._errors, self._layers = {}, {}, {}, false
  self._trace, self._last = false, false
  return self
end

-- Make the next invoke fork new workers.
function Pipeline:reset()
  check_self(self, "reset")
  self._workers:close()
  return self
end

-- End the workers, and cancel work in progress.
function Pipeline:close()
  check_self(self, "close")
  local stream = next(self._streams)
  while stream do
    stream:cancel()
    stream = next(self._streams)
  end
  for _, invocation in ipairs { table.unpack(self._live) } do
    invocation.future:cancel()
  end
  self._workers:close()
end

-- Leaving a scope without an error finishes the work in progress; an error cancels the work.
function Pipeline:leave(e)
  if e == nil then
    for _, invocation in ipairs { table.unpack(self._live) } do
      wait.until_done(invocation.future)
    end
  end
  self:close()
end

---Set a field. Only the field `input` can be set.
function Pipeline:set(name, value)
  if name ~= "input" then
    check.fail("%s has no field '%s' that can be set", check.typename(self), tostring(name))
  end
  if type(value) ~= "table" then
    check.fail("input must be a table, not a %s", check.typename(value))
  end
  self._input = value
end

return Pipeline
