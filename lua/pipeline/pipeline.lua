--- pipeline.lua - the common part of chains and dags: input, invoke, output, close.
--
-- A base class: it needs _compile() -> plan, _states() -> the states of the pools, and `_options`.

local Invocation = require "fzlua.invocation"
local StagePools = require "fzlua.stage_pools"
local check = require "fzlua.check"
local made = require "fzlua.made"
local wait = require "fzlua.wait"

---@class fzlua.Pipeline
---@field input table
---@field output table values that left the end in the last invoke
---@field errors table<string, fz.Error> of the last invoke, by output
local Pipeline = {}

---Set the fields of `self`, which has no metatable yet. All fields are set here, because a later
---assignment to a missing field calls set().
function Pipeline.init(self, options)
  self._input, self._output, self._errors = {}, {}, {}
  self._options = options
  self._workers = StagePools.new()
  self._plan, self._plan_key, self._layers = false, false, false
  self._state_list = false -- of a chain's stages; false until needed
  self._live = {} -- invocations in progress, in the order of their start
  made.pipeline = true
  return self
end

-- The engine forks a worker only when a job may run on it now, so that `jobs` limits them, too.
local function worker_count(state, pool)
  return state.options.workers or math.min(#pool.funcs, check.WORKERS_MAX)
end

local function add_workers(self, plan, states, entries)
  for i, pool in ipairs(plan.pools) do
    local state = states[pool.layer]
    entries[i] = self._workers:acquire(
      state.registry, worker_count(state, pool), pool.funcs, state.options.init)
  end
end

local function acquire_workers(self, plan, states)
  local entries = {}
  local ok, e = pcall(add_workers, self, plan, states, entries)
  if not ok then
    for _, entry in ipairs(entries) do StagePools.release(entry) end
    error(e, 0)
  end
  return entries
end

-- The options of the chain and its stages; kept with the plan.
local function defaults_of(self, plan, states)
  if not plan.defaults then
    local list = { self._options }
    for i, state in ipairs(states) do list[i + 1] = state.options end
    plan.defaults = Invocation.defaults(list)
  end
  return plan.defaults
end

local function start(self, what, input, given)
  if input ~= nil then self._input = check.type(input, "table", 1, what) end
  given = check.options(given, check.INVOKE, 2, what)
  self._output, self._errors, self._layers = {}, {}, false
  local plan, states = self:_compile(), self:_states()
  plan:check_inputs(self._input)
  local merged = Invocation.options(given, defaults_of(self, plan, states))
  self._workers:share(merged.jobs)
  local entries = acquire_workers(self, plan, states)
  local invocation = Invocation.start(self, plan, entries, self._input, given, merged)
  if not invocation:done() then self._live[#self._live + 1] = invocation end
  return invocation
end

-- Called by an invocation at its end.
function Pipeline:_ended(invocation, output, errors)
  for i, other in ipairs(self._live) do
    if other == invocation then
      table.remove(self._live, i)
      break
    end
  end
  self._output, self._errors = output, errors
  self._layers = invocation.layers or false
end

---Run all functions in workers and wait; returns self, see `output`.
---@param input? table becomes `input`
---@param options? table
function Pipeline:invoke(input, options)
  start(self, "invoke", input, options):wait()
  return self
end

---Start an invoke and return at once.
---@param input? table becomes `input`
---@param options? table
---@return fzlua.Future of the output table
function Pipeline:invoke_async(input, options)
  return start(self, "invoke_async", input, options).future
end

---invoke() and return the output table.
---@return table
function Pipeline:call(input, options)
  return start(self, "invoke", input, options):wait()
end

---Drop input, output and errors.
function Pipeline:prune()
  self._input, self._output, self._errors, self._layers = {}, {}, {}, false
  return self
end

---Make the next invoke fork new workers.
function Pipeline:reset()
  self._workers:close()
  return self
end

---End the workers; cancels work in progress.
function Pipeline:close()
  for _, invocation in ipairs { table.unpack(self._live) } do
    invocation.future:cancel()
  end
  self._workers:close()
end

-- Leaving a scope without an error finishes the work that was started; an error cancels it.
function Pipeline:leave(e)
  if e == nil then
    for _, invocation in ipairs { table.unpack(self._live) } do
      wait.until_done(invocation.future)
    end
  end
  self:close()
end

---Set a field; only `input` can be set.
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
