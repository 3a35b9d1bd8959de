--- invocation.lua - one invoke of a plan: its run, events, outputs and errors.
--
-- wait.lua pumps the invocation during waits. At its end, the invocation settles a future, and
-- notifies its owner, a chain or a dag.

local core = require "fzlua.core"
local engine_url = require "fzlua.engine_url"
local Error = require "fzlua.error"
local Future = require "fzlua.future"
local Plan = require "fzlua.plan"
local StagePools = require "fzlua.stage_pools"
local callback = require "fzlua.callback"
local check = require "fzlua.check"
local option_defaults = require "fzlua.defaults"
local lists = require "fzlua.lists"
local stage_lines = require "fzlua.stage_lines"
local wait = require "fzlua.wait"

---@class fzlua.Invocation
---@field future fzlua.Future of the output table
local Invocation = {}
Invocation.__index = Invocation
Invocation.__name = "fzlua.Invocation"

local NONE <const> = {}

local release = StagePools.release

local function first_given(name, list)
  for i = 1, #list do
    if list[i][name] ~= nil then return list[i][name] end
  end
end

---The defaults of the options for all invokes of a chain.
---@param list table[] the options of the chain, then those of each stage
---@return table
function Invocation.defaults(list)
  local limits, merged = { list[1], option_defaults }, {}
  list[#list + 1] = option_defaults
  for _, name in ipairs(check.RUN) do merged[name] = first_given(name, list) end
  -- Limits of a stage do not apply to other stages, so they are in the plan.
  for _, name in ipairs(check.LIMITS) do merged[name] = first_given(name, limits) end
  merged.cache = first_given("cache", limits)
  merged.on_error = merged.on_error or "stop"
  return merged
end

-- Set the options that are not known before a run starts.
local function complete(merged, given, defaults)
  merged.jobs = given.jobs or defaults.jobs or engine_url.slots(merged.engine)
  merged.given_seed = given.seed or defaults.seed
  merged.seed = merged.given_seed or core.random_seed()
  return merged
end

---The options of a run as a whole.
---@param given table the invoke's options, which override the defaults
---@param defaults table see Invocation.defaults
---@return table
function Invocation.options(given, defaults)
  local merged = {}
  for name, value in next, defaults do merged[name] = value end
  for name, value in next, given do merged[name] = value end
  merged.events = type(merged.progress) == "function"
  return complete(merged, given, defaults)
end

-- A table of defaults -> the options of runs that set no options of their own.
local plain = setmetatable({}, { __mode = "k" })

---Same as options(), but the result is only valid until the next call of this function. Runs
---without options of their own share one table, unless they have a trace or a report.
---@param given table
---@param defaults table
---@return table
function Invocation.shared_options(given, defaults)
  if next(given) ~= nil or defaults.trace or defaults.report then
    return Invocation.options(given, defaults)
  end
  local merged = plain[defaults]
  if merged then return complete(merged, given, defaults) end
  merged = Invocation.options(given, defaults)
  plain[defaults] = merged
  return merged
end

local function set_input(run, need, value)
  run:set(need.value, need.is_list and lists.readable(value) or value)
end

local function set_inputs(run, needs, input)
  for i = 1, #needs do
    local need = needs[i]
    local ok, e = pcall(set_input, run, need, input[need.name])
    if not ok then
      -- The error may also come from the __fzpack of a class.
      if Error.is(e) and e.kind ~= "interrupted" then
        Error.about(e, "input " .. need.name)
        e.input = need.name
      end
      error(e, 0)
    end
  end
end

-- Make the run and start it. Sets self.run first, so that the run is closed if an error is raised.
local function start_run(self, given)
  local plan, merged, entries, pools = self.plan, self.options, self._entries, {}
  for i = 1, #entries do pools[i] = entries[i].pool end
  local run = core.run(plan.graph, pools, merged)
  self.run = run
  plan:set_limits(run, given)
  if self._cache then self._cache:attach(run, self.input) end
  set_inputs(run, plan.needs, self.input)
  run:keep(plan:kept(merged.keep))
  run:start()
end

---Start `plan`. Raises errors that are found before any function runs.
---@param owner table notified by owner:_ended(invocation, output, errors)
---@param plan fzlua.Plan
---@param entries table[] of StagePools, one for each of the plan's pools
---@param input table
---@param given table the invoke's own options
---@param merged table the options of the whole run
---@param cache? fzlua.CallCache
---@return fzlua.Invocation
function Invocation.start(owner, plan, entries, input, given, merged, cache)
  local progress = callback.progress(merged.progress)
  local self = setmetatable({
    owner = owner, plan = plan, input = input, options = merged, run = false, future = false,
    layers = false, _given = given, _asks = plan.asks or merged.retry_if ~= nil,
    _entries = entries, _progress = progress, _shown = false, _pumping = false,
    _cache = cache or false,
  }, Invocation)
  if progress then
    self._ended, self._count, self._total = {}, 0, #plan.nodes
    self._left = {} -- node of a map whose list is known -> number of elements that have not ended
  end
  self.future = Future.new(function() self:_cancel() end)
  if #plan.nodes == 0 then
    self:_settle()
    return self
  end
  local ok, e = pcall(start_run, self, given)
  if not ok then
    if self.run then self.run:close() end
    self.run = false
    if cache then cache:detach() end
    self:_release()
    error(e, 0)
  end
  self._shown = stage_lines.start(owner, plan, self.run, merged)
  return self
end

---Let the run continue during other waits. The caller of start() must next call watch() or wait().
function Invocation:watch()
  if self.run then wait.watch(self.run:id(), self) end
end

-- Wait for the run in the engine. Returns false if Lua code must run during the wait.
local function wait_alone(self)
  local run = self.run
  return run and not (self._progress or self._asks or self._cache) and wait.alone() and run:wait()
end

function Invocation:done()
  return self.future:done()
end

function Invocation:_release()
  local entries = self._entries
  self._entries = NONE
  for i = 1, #entries do release(entries[i]) end
end

local function end_run(self, run)
  if self._cache then
    local cache = self._cache
    self._cache = false
    cache:detach()
  end
  if self._shown then self._shown:finish() end
  run:close()
end

-- Cancel the run and drop it. The caller then settles the future.
function Invocation:_cancel()
  if self.run then
    wait.unwatch(self.run:id())
    self.run:cancel()
    end_run(self, self.run)
    self.run = false
  end
  self:_release()
  self.owner:_ended(self, {}, {})
end

local ENDS = { done = true, failed = true, cached = true }

local function call_progress(self, kind, id, pid, seconds, index)
  local node, cached = self.plan.nodes[id], kind == "cached" or nil
  if pid == 0 then pid = nil end
  self._progress(self._count, self._total, {
    kind = cached and "done" or kind, stage = node.stage, output = node.outputs[1], index = index,
    pid = pid, seconds = seconds, cached = cached,
  })
end

local function report(self, kind, id, pid, seconds)
  if self._left[id] then return end -- the elements of a map are reported instead of the map
  if ENDS[kind] and not self._ended[id] then
    self._ended[id] = true
    self._count = self._count + 1
  end
  call_progress(self, kind, id, pid, seconds)
end

-- Report `n` consecutive elements of a map. The first of them has the number `index`.
local function report_elements(self, kind, id, pid, seconds, index, n)
  for i = index, index + n - 1 do
    if not self.run then return end
    if ENDS[kind] then
      self._left[id] = self._left[id] - 1
      self._count = self._count + 1
    end
    call_progress(self, kind, id, pid, seconds, i)
  end
end

-- When the run ends, report the nodes and elements that never ran, so that in the last call of the
-- progress function `done` is equal to `total`.
local function report_rest(self)
  for id in ipairs(self.plan.nodes) do
    local left = self._left[id]
    for _ = 1, left or (self._ended[id] and 0 or 1) do
      if not self.run then return end
      self._count = self._count + 1
      call_progress(self, "failed", id)
    end
    self._ended[id] = true
    self._left[id] = left and 0
  end
end

-- Move the number of the element of a map to the field `index` of an error.
local function set_index(e)
  e.index, e.element = e.element, nil
  return e
end

-- Ask the function of the option retry_if about each failed node and element, and retry those for
-- which it returns true. The function may cancel the run.
local function decide_retries(self)
  local run = self.run
  local id, _, e = run:undecided()
  while id do
    e = set_index(Plan.name_error(e or run:error(id), self.plan.nodes[id]))
    local index = e.index
    local again = callback.retry_if(self.plan:retry_if(id, self._given, self.options), e)
    if self.run ~= run then return end
    run:decide(id, again, index)
    id, _, e = run:undecided()
  end
end

-- Record the new results, and look up the nodes for which the run asks.
local function use_cache(self)
  if self._cache and self.run then self._cache:record() end
  if self._cache and self.run then self._cache:answer() end
end

-- Handle the requests of the run.
local function handle(self)
  if self._asks then
    if self._cache then self._cache:record() end
    decide_retries(self)
  end
  use_cache(self)
end

-- Pass all events to the progress function. It may cancel the run or wait, so the requests of the
-- run are handled before each event. When the list of a map becomes known, the elements are counted
-- instead of the map.
local function report_events(self)
  local run = self.run
  while true do
    handle(self)
    if self.run ~= run then return end
    local kind, id, pid, seconds, index, n = run:event()
    if not kind then return end
    if not index then
      report(self, kind, id, pid, seconds)
    elseif kind ~= "list" then
      report_elements(self, kind, id, pid, seconds, index, n)
    elseif n > 0 then
      self._left[id], self._total = n, self._total + n - 1
    end
  end
end

-- Call the callbacks. They may wait and pump other objects, so the caller must read the state of
-- the run again.
local function call_back(self)
  if not self._progress then return handle(self) end
  report_events(self)
  if self.run and self.run:done() then report_rest(self) end
end

local function set_pumping(self, pumping)
  self._pumping, self.future._pumping = pumping, pumping
end

---Handle events and the end of the run. Called by wait.lua.
function Invocation:pump()
  if self._pumping or not self.run then return end
  if self._progress or self._asks or self._cache then
    set_pumping(self, wait.pumper())
    local ok, e = pcall(call_back, self)
    set_pumping(self, false)
    if not ok then
      if self.run then
        self:_cancel()
        self.future:_set_error(e)
      end
      if Error.is(e, "interrupted") then error(e, 0) end
      return
    end
  end
  if self.run and self.run:done() then self:_settle() end
end

local function where(node)
  return node.stage and ("%s.%s"):format(node.stage, node.outputs[1]) or node.outputs[1]
end

-- Make the error of a node; nil if it has a result. In the error of a cancelled node, the engine
-- sets `because` to the failed node for which the node waited, or which stopped the run.
local function error_of(self, id)
  local e = self.run:error(id)
  if e then set_index(e) end
  if e and e.because then
    e.message = ("not run, because %s failed"):format(where(self.plan.nodes[e.because]))
    e.because = nil
  end
  return e
end

-- The errors of the elements of a map, in their order.
local function element_errors(self, id)
  local list = {}
  repeat
    local e = self.run:element(id, #list + 1)
    list[#list + 1] = e and Plan.name_error(set_index(e), self.plan.nodes[id])
  until not e
  return list
end

-- Add the errors of the elements of a map. The element `index` and the elements that were cancelled
-- are left out.
local function add_elements(self, list, id, index)
  for _, e in ipairs(self.plan.nodes[id].map and element_errors(self, id) or {}) do
    if e.index ~= index and e.kind ~= "cancelled" then list[#list + 1] = e end
  end
  return list
end

-- Add one error for each missing output. If two stages have an output of this name, a failed node
-- comes before a node that was cancelled.
local function collect_errors(self, errors)
  for id, node in ipairs(self.plan.nodes) do
    local e = error_of(self, id)
    for i, output in ipairs(e and node.outputs or {}) do
      local earlier = errors[output]
      if not earlier or earlier.kind == "cancelled" then
        errors[output] = Plan.name_error(i == 1 and e or error_of(self, id), node, output)
        local others = add_elements(self, {}, id, e.index)
        e.others = others[1] and others
      end
    end
  end
end

-- The errors of the other nodes that failed before the run had stopped, sorted by time. Nodes that
-- were cancelled because of the failure are left out.
local function collect_others(self, first, index)
  local others, id = {}, self.run:failed()
  if first > 0 then add_elements(self, others, first, index) end
  while id do
    local e = id ~= first and error_of(self, id)
    if e and e.kind ~= "cancelled" then
      others[#others + 1] = Plan.name_error(e, self.plan.nodes[id])
    end
    id = self.run:failed(id)
  end
  return #others > 0 and others or nil
end

local function note_failures(self)
  local id = self.run:failed()
  while id do
    local e = error_of(self, id)
    if e and e.kind ~= "cancelled" then self._cache:fail(id, e, 0) end
    id = self.run:failed(id)
  end
end

local function collect_failure(self)
  local id, e = self.run:failure()
  if not id then return nil end
  -- Ctrl-C in a function that ran in this process is not a failure of the function.
  if Error.is(e.cause, "interrupted") then return e.cause end
  if id > 0 then Plan.name_error(set_index(e), self.plan.nodes[id]) end
  e.others = collect_others(self, id, e.index)
  return e
end

---@class fzlua.Results the results of a run, read value by value
---@field run userdata
---@field decoded table<integer, any>|false values read before, if several stages are read that may
---pass one on
---@field errors table<string, fz.Error> by output
---@field keeps boolean whether a value that cannot be read fails only its output

-- The list of a map some of whose elements have failed; nil for other nodes. The failed elements
-- are nil, and the list has their errors in its field `errors`, like the result of a pool's map.
local function read_partial(self, run, id)
  local list = id and self.plan.nodes[id].map and run:partial(id)
  if not list then return false end
  list.errors = {}
  for _, e in ipairs(element_errors(self, id)) do list.errors[e.index] = e end
  return true, list
end

-- Read the value `value` of output `name`. Returns false if there is no value. The value of a
-- complete result cannot be read if the __fzunpack of its class raises.
local function read_value(self, results, value, name)
  local before = results.decoded
  if before and before[value] ~= nil then return true, before[value] end
  local ok, there, decoded = pcall(results.run.value, results.run, value)
  if ok and not there and results.keeps then
    ok, there, decoded = pcall(read_partial, self, results.run, self.plan.maker[value])
  end
  if ok then
    if before then before[value] = decoded end
    return there, decoded
  end
  local e = there
  if Error.is(e, "interrupted") then error(e, 0) end
  if not Error.is(e) then e = Error.new { kind = "memory", message = tostring(e) } end
  Plan.name_error(e, self.plan.nodes[self.plan.maker[value]], name)
  if not results.keeps then error(e, 0) end
  results.errors[name] = results.errors[name] or e
  return false
end

local function collect_output(self, results)
  local plan, input, output = self.plan, self.input, {}
  local all_final, passed = plan.final, plan:passed(input)
  for i = 1, #all_final do
    local final = all_final[i]
    local there, value = read_value(self, results, final.value, final.name)
    if there then output[final.name] = value end
  end
  for i = 1, #passed do output[passed[i]] = input[passed[i]] end
  return output
end

-- Collect the values that left each stage, because of the option keep = "all".
local function collect_layers(self, results)
  local layers, passing = {}, self.input
  for number, layer in ipairs(self.plan.layers) do
    local leaving = {}
    if layer.passes then
      for name, value in pairs(passing) do leaving[name] = value end
    end
    for _, made in ipairs(layer.made) do
      local there, value = read_value(self, results, made.value, made.name)
      leaving[made.name] = nil -- a replaced value does not leave the stage
      if there then leaving[made.name] = value end
    end
    layers[number], passing = leaving, leaving
  end
  return layers
end

-- Collect the results. Returns the error of the whole run, or nil and the output. The errors of
-- single outputs are added to `errors`.
local function collect(self, run, errors)
  local options = self.options
  local keeps = options.on_error == "continue"
  if run then
    local failure = collect_failure(self)
    if self._cache then note_failures(self) end
    if failure or keeps or run:failed() then collect_errors(self, errors) end
    if failure then return failure end
  end
  local results =
    { run = run, decoded = options.keep == "all" and {}, errors = errors, keeps = keeps }
  local output = collect_output(self, results)
  if options.keep == "all" then self.layers = collect_layers(self, results) end
  return nil, output
end

local function leave(self, run, output, errors)
  if run then end_run(self, run) end
  self:_release()
  self.owner:_ended(self, output, errors)
end

-- Notify the owner of the end of the run, and settle the future. This must also work when memory
-- runs out.
function Invocation:_settle()
  local run, errors, none = self.run, {}, {}
  if run then wait.unwatch(run:id()) end
  local ok, failure, output = pcall(collect, self, run, errors)
  self.run = false
  local left, e = pcall(leave, self, run, output or none, errors)
  if not left then ok, failure = false, e end
  if ok and failure == nil then
    self.future:_set_result(output)
  else
    self.future:_set_error(failure)
  end
end

function Invocation:__close()
  self.future:cancel()
end

---Wait for the output. If the wait raises an error, such as Ctrl-C, the run is cancelled.
---@return table output
function Invocation:wait()
  local _ <close> = self
  if wait_alone(self) then self:_settle() else self:watch() end
  return self.future:await()
end

return Invocation
