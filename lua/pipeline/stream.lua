--- stream.lua - many items through one chain or dag, whose functions work on different items at the
--- same time.
--
-- The engine has a run for each item (core.stream). This module keeps the values that pass through
-- the chain, and names errors.

local core = require "fzlua.core"
local Error = require "fzlua.error"
local Plan = require "fzlua.plan"
local StagePools = require "fzlua.stage_pools"
local Window = require "fzlua.window"
local callback = require "fzlua.callback"
local lists = require "fzlua.lists"
local stage_lines = require "fzlua.stage_lines"

---@class fzlua.Stream: fzlua.Window
local Stream = Window.class "fzlua.Stream"

-- Objects that pass the events of a stream to a progress function.
local Events = {}
Events.__index = Events

local ENDS = { done = true, failed = true, cached = true }

-- Report one event. An item that was not started has one event, which has no node. A map has one
-- event for each element, but counts as one function.
function Events:_report(place, kind, id, pid, seconds, element)
  local node, cached = self._plan.nodes[id], kind == "cached" or nil
  if ENDS[kind] and not element then
    local left = node and (self._left[place] or #self._plan.nodes) - 1 or 0
    self._left[place] = left > 0 and left or nil
    if left == 0 then self._done = self._done + 1 end
  end
  self._f(self._done, self._total or self._runs:nread(), {
    kind = cached and "done" or kind, stage = node and node.stage,
    output = node and node.outputs[1], index = place, element = element,
    pid = node and not cached and pid or nil, seconds = node and seconds, cached = cached,
  })
end

---Pass all events to the progress function. It may close the stream or wait, so changes are
---handled before each event.
---@param handle fun(owner: table)
---@param owner table
function Events:report_all(handle, owner)
  while not self.closed do
    handle(owner)
    if self.closed then return end
    local place, kind, id, pid, seconds, element, n = self._runs:event()
    if not place then return end
    if not element then
      self:_report(place, kind, id, pid, seconds)
    elseif kind ~= "list" then
      for i = element, element + n - 1 do
        if self.closed then return end
        self:_report(place, kind, id, pid, seconds, i)
      end
    end
  end
end

function Events.new(runs, plan, f, total)
  f = callback.progress(f)
  if not f then return nil end
  return setmetatable({
    _runs = runs, _plan = plan, _f = f, _total = total, _done = 0, closed = false,
    _left = {}, -- place of an item -> number of functions that have not ended
  }, Events)
end

-- Ask the function of the option retry_if about each failed node, and retry the nodes for which it
-- returns true. The function may close the stream.
function Stream:decide_retries()
  while not self._closed do
    local id, place, e = self._items:undecided()
    if not id then return end
    local element = e.element
    Plan.name_error(e, self._plan.nodes[id]).index = place
    local again = callback.retry_if(self._plan:retry_if(id, self._given, self._merged), e)
    if not self._closed then self._items:decide(place, id, again, element) end
  end
end

---Wait in the engine, if no Lua code must run during the wait. Called by wait.lua.
---@return boolean whether the engine has waited
function Stream:wait_alone()
  return not (self._events or self._shown or self._asks or self._cache) and self._items:wait()
end

-- The error of an item that was not started: input number `need` is missing, or cannot be sent.
local function input_error(self, need, e)
  local input = self._plan.needs[need]
  if not input then
    return Error.new {
      kind = "graph",
      message = ("the chain has %d inputs, so that an item must be a table with them by name")
        :format(#self._plan.needs),
    }
  end
  if e == nil then
    return Error.new {
      kind = "graph", stage = input.stage, output = input.output, input = input.name,
      message = Plan.missing_text(input),
    }
  end
  if not Error.is(e) then
    e = Error.new { kind = "error", message = core.error_text(e), cause = e }
  end
  Error.about(e, "input " .. input.name)
  e.input = input.name
  return e
end

function Stream:name_error(place, e, node, name)
  self._passing[place] = nil
  if node and node < 0 then
    e, node = input_error(self, -1 - node, e), nil
  elseif not Error.is(e) then
    e = Error.new { kind = "memory", message = tostring(e) }
  end
  -- Ctrl-C in a function that ran in this process is not a failure of the function.
  if Error.is(e.cause, "interrupted") then return e.cause, true end
  if node and node > 0 then
    Plan.name_error(e, self._plan.nodes[node], name)
    if self._cache and not Error.is(e, "cancelled") then self._cache:fail(node, e, place) end
  end
  if self._cache then self._cache:forget(place) end
  if node ~= 0 then e.index = place end
  return e, node == 0 or Error.is(e, "interrupted")
end

function Stream:complete(place, out)
  for key, value in pairs(self._passing[place] or {}) do out[key] = value end
  self._passing[place] = nil
  if self._cache then self._cache:forget(place) end
  return out
end

function Stream:record()
  if self._cache then self._cache:record() end
end

function Stream:leave()
  pcall(self.record, self)
end

function Stream:release()
  if self._merged.own_trace then self._merged.own_trace:close() end
  if self._cache then self._cache:detach() end
  for _, entry in ipairs(self._entries) do StagePools.release(entry) end
  self._owner._streams[self] = nil
end

---Close the stream, because the chain is closed. The loop then raises an error.
function Stream:cancel()
  if self._closed then return end
  self._cut = Error.new { kind = "cancelled", message = "the chain was closed" }
  self:close()
end

-- Wrap a source of lists of values: the inputs of the chain, in the order in which its functions
-- read them. A list of a single value becomes this value.
local function unpacking(plan, following)
  return function()
    local values = following()
    if not values then return nil end
    if values.n == 1 then return values[1] end
    local item = {}
    for i, need in ipairs(plan.needs) do item[need.name] = values[i] end
    return item
  end
end

-- Wrap a source: store in self._passing the values of its items that pass through the chain.
local function noting(self, plan, following)
  local items, passing = self._items, self._passing
  local only = #plan.needs == 1 and plan:passes_on(plan.needs[1].name) and plan.needs[1].name
  return function()
    local item = following()
    if type(item) == "table" then
      local values
      for name, value in pairs(item) do
        if plan:passes_on(name) then
          values = values or {}
          values[name] = value
        end
      end
      if values then
        items:advance_always()
        passing[items:nread() + 1] = values
      end
    elseif only and item ~= nil then
      items:advance_always()
      passing[items:nread() + 1] = { [only] = item }
    end
    return item
  end
end

-- Wrap a source: replace lists of a manager by copies, if a map of the chain reads their elements.
local function copying(plan, following)
  return function()
    local item = following()
    if type(item) ~= "table" then return item end
    local copies = setmetatable({}, { __index = item })
    for _, need in ipairs(plan.needs) do
      if need.is_list then copies[need.name] = lists.readable(item[need.name]) end
    end
    return copies
  end
end

local function has_lists(plan)
  for _, need in ipairs(plan.needs) do
    if need.is_list then return true end
  end
  return false
end

local function make_runs(plan, entries, given, merged, cache)
  local pools = {}
  for i, entry in ipairs(entries) do pools[i] = entry.pool end
  merged.inputs, merged.outputs = plan.needs, plan.final
  merged.ordered = merged.ordered ~= false
  local runs = core.stream(plan.graph, pools, merged)
  plan:set_limits(runs, given)
  if cache then cache:attach(runs) end
  return runs
end

---@param owner fzlua.Pipeline
---@param plan fzlua.Plan
---@param entries table[] of StagePools, one for each of the plan's pools; released at the end
---@param from fzlua.Source
---@param given table the stream's own options
---@param merged table the options of the whole stream, and limit and fixed of the window
---@param cache? fzlua.CallCache
---@return function, nil, nil, fzlua.Stream as a for loop takes them
function Stream.new(owner, plan, entries, from, given, merged, cache)
  local ok, runs = pcall(make_runs, plan, entries, given, merged, cache)
  if not ok then
    if cache then cache:detach() end
    for _, entry in ipairs(entries) do StagePools.release(entry) end
    error(runs, 0)
  end
  local self = {
    _owner = owner, _plan = plan, _entries = entries, _items = runs, _work = runs,
    _events = Events.new(runs, plan, merged.progress, from.n),
    _shown = stage_lines.start(owner, plan, runs, merged, from),
    _given = given, _merged = merged, _asks = plan.asks or merged.retry_if ~= nil,
    _passing = {}, -- place of an item -> its values that pass through the chain
    _cache = cache or false,
  }
  if from.packed then from.next = unpacking(plan, from.next) end
  if plan.passes then from.next = noting(self, plan, from.next) end
  if has_lists(plan) then from.next = copying(plan, from.next) end
  owner._streams[self] = true
  return Window.open(self, Stream, from, merged)
end

return Stream
