--- stream.lua - many items through one chain or dag, whose functions work on different items at the
--- same time.
--
-- The engine has a run for each item. This module reads the source, and returns the results. A
-- ready result is returned before the source is read again. At most `inflight` items have been read
-- and not yet returned.

local core = require "fzlua.core"
local Error = require "fzlua.error"
local Plan = require "fzlua.plan"
local StagePools = require "fzlua.stage_pools"
local callback = require "fzlua.callback"
local source = require "fzlua.source"
local stage_lines = require "fzlua.stage_lines"
local wait = require "fzlua.wait"

---@class fzlua.Stream
local Stream = {}
Stream.__index = Stream
Stream.__name = "fzlua.Stream"
Stream.__fzpack = false -- cannot be sent

-- A source whose call takes more seconds than SLOW is slow: its items are sent, and results are
-- polled, before the next call. The poll takes this part of the time of the call. Items of other
-- sources wait for HOLD seconds at most.
local SLOW <const>, POLL_SHARE <const>, HOLD <const> = 50e-6, 1 / 16, 1e-3

-- The values of an iterator with a state are the inputs of the chain in the order in which its
-- functions read them; a single value is an item like any other.
local function unpack_item(self, values)
  if values.n == 1 then return values[1] end
  local item = {}
  for i, need in ipairs(self._plan.needs) do item[need.name] = values[i] end
  return item
end

-- Keep the values of an item that pass through the chain.
local function keep_passing(self, place, item)
  local plan, values = self._plan, nil
  if type(item) ~= "table" then item = { [plan.needs[1].name] = item } end
  for name, value in pairs(item) do
    if plan:passes_on(name) then
      values = values or {}
      values[name] = value
    end
  end
  self._passing[place] = values
  self._passed = self._passed or values ~= nil
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

-- The item was not started.
local function refuse(self, place, need, e)
  if Error.is(e, "interrupted") then error(e, 0) end
  self._errors[place] = input_error(self, need, e)
  self._done = self._done + 1
  if self._progress then
    self._progress(self._done, self._total or self._count, { kind = "failed", index = place })
  end
end

-- Read the source while the window has room and no result is ready.
local function fill(self)
  local runs, limit, now, following = self._runs, self._inflight, core.now, self._next
  if self._count - self._returned > limit - limit // 4 and limit >= 64 then return end
  local add, before = runs.add, now()
  local polled = before
  while not self._ended and self._count - self._returned < limit do
    local item = following()
    if self._closed then return end -- by the source itself
    local kind = type(item)
    if kind == "table" then
      if item == source.NOTHING then item = nil
      elseif self._packed then item = unpack_item(self, item) end
    elseif item == nil then
      self._ended = true
      return
    end
    local place, need, e = add(runs, item)
    self._count = place
    if need then
      refuse(self, place, need, e)
    elseif kind == "table" and self._tables_pass or self._others_pass then
      keep_passing(self, place, item)
    end
    local after = now()
    if need or after - before > SLOW or after - polled > HOLD then
      wait.until_done(self, (after - before) * POLL_SHARE)
      if self._closed or runs:ready() or runs:stopped() then return end
      after = now()
      polled = after
    end
    before = after
  end
end

local ENDS = { done = true, failed = true }

local function report(self, kind, id, pid, seconds, place)
  local node = self._plan.nodes[id]
  if ENDS[kind] then
    local left = (self._left[place] or #self._plan.nodes) - 1
    self._left[place] = left > 0 and left or nil
    if left == 0 then self._done = self._done + 1 end
  end
  self._progress(self._done, self._total or self._count, {
    kind = kind, stage = node.stage, output = node.outputs[1], index = place, pid = pid,
    seconds = seconds,
  })
end

-- Pass all events to the progress function, which may close the stream.
local function report_all(self)
  while not self._closed do
    local kind, id, pid, seconds, place = self._runs:event()
    if not kind then return end
    report(self, kind, id, pid, seconds, place)
  end
end

-- Retry the failed nodes for which the option retry_if says so. It may close the stream.
local function decide_retries(self)
  while not self._closed do
    local id, place, e = self._runs:undecided()
    if not id then return end
    Plan.name_error(e, self._plan.nodes[id]).index = place
    local again = callback.retry_if(self._plan:retry_if(id, self._given, self._merged), e)
    if not self._closed then self._runs:decide(place, id, again) end
  end
end

local function call_back(self)
  if self._asks then decide_retries(self) end
  if self._progress then report_all(self) end
end

---Handle events, and failures that may be retried; called by wait.lua.
function Stream:pump()
  if not (self._progress or self._asks) or self._pumping or self._closed then return end
  self._pumping = true
  local ok, e = pcall(call_back, self)
  self._pumping = nil
  if not ok then error(e, 0) end
end

---Whether a result is ready, or none will come; called by wait.lua.
function Stream:done()
  return self._closed or self._count == self._returned or self._runs:ready()
end

---Wait in the engine if no Lua code is needed meanwhile; called by wait.lua.
---@return boolean whether it was possible
function Stream:wait_alone()
  return not (self._progress or self._shown or self._asks) and self._runs:wait()
end

-- No result will come: end, or raise why the chain was closed.
local function finish(self)
  local cut = self._cut
  self._cut = nil
  if self._shown and not (cut or self._closed) then self._shown:finish "done" end
  self:close()
  if cut then error(cut, 0) end
  return nil
end

-- The error of item `place`, with the names of its stage and output.
local function error_of(self, place, e, node, name)
  local earlier = self._errors[place]
  if earlier then
    self._errors[place], e = nil, earlier
  elseif not Error.is(e) then
    e = Error.new { kind = "memory", message = tostring(e) }
  end
  -- Ctrl-C in a function that ran in this process is not a failure of the function.
  if Error.is(e.cause, "interrupted") then return e.cause end
  if node and node > 0 then Plan.name_error(e, self._plan.nodes[node], name) end
  if node ~= 0 then e.index = place end
  return e
end

-- Return the result of an item; `e` and what follows are those of its error.
local function return_result(self, place, out, e, node, name)
  if not place then return finish(self) end
  self._returned = self._returned + 1
  local passed = self._passing[place]
  self._passing[place] = nil
  if not out then
    e = error_of(self, place, e, node, name)
    if self._on_error ~= "continue" or node == 0 or Error.is(e, "interrupted") then
      self:close()
      error(e, 0)
    end
    return place, nil, e
  end
  for key, value in pairs(passed or {}) do out[key] = value end
  return place, out
end

-- No result is ready: read the source, and wait for one.
local function step(self)
  if not self._closed then
    self:pump()
    if not self._runs:stopped() then fill(self) end
    if not self:done() then wait.until_done(self) end
  end
  if self._closed then return finish(self) end
  return return_result(self, self._runs:take())
end

local function release(entries)
  for _, entry in ipairs(entries) do StagePools.release(entry) end
end

-- End what runs.
local function stop(self)
  if self._closed then return end
  self._closed = true
  if self._shown then self._shown:finish() end
  self._runs:close()
  release(self._entries)
  self._owner._streams[self] = nil
end

---End what runs, and close the source.
function Stream:close()
  if self._closed then return end
  local _ <close> = self._closing -- the iterator's closing value
  stop(self)
end

Stream.__close = Stream.close
Stream.__gc = stop

---The chain is closed: the loop raises an error.
function Stream:cancel()
  if self._closed then return end
  self._cut = Error.new { kind = "cancelled", message = "the chain was closed" }
  self:close()
end

local function make_runs(plan, entries, given, merged)
  local pools = {}
  for i, entry in ipairs(entries) do pools[i] = entry.pool end
  merged.inputs, merged.outputs = plan.needs, plan.final
  merged.ordered = merged.ordered ~= false
  local runs = core.stream(plan.graph, pools, merged)
  plan:set_limits(runs, given)
  return runs
end

---@param owner fzlua.Pipeline
---@param plan fzlua.Plan
---@param entries table[] of StagePools, one for each of the plan's pools; released at the end
---@param from fzlua.Source
---@param given table the stream's own options
---@param merged table the options of the whole stream, with inflight
---@return function, nil, nil, fzlua.Stream as a for loop takes them
function Stream.new(owner, plan, entries, from, given, merged)
  local ok, runs = pcall(make_runs, plan, entries, given, merged)
  if not ok then
    release(entries)
    error(runs, 0)
  end
  local self = setmetatable({
    _owner = owner, _plan = plan, _entries = entries, _runs = runs, _next = from.next,
    _packed = from.packed, _closing = from.closing, _total = from.n,
    _given = given, _merged = merged, _asks = plan.asks or merged.retry_if ~= nil,
    _inflight = merged.inflight, _on_error = merged.on_error, _tables_pass = plan.passes,
    _others_pass = #plan.needs == 1 and plan:passes_on(plan.needs[1].name),
    _progress = callback.progress(merged.progress),
    _shown = stage_lines.start(owner, plan, runs, merged, from),
    _errors = {}, _passing = {}, _left = {}, -- by place
    _count = 0, _returned = 0, _done = 0,
    _ended = false, _closed = false,
    _passed = false, -- some items have had values that pass through
    _cut = nil, -- error to raise because the chain was closed
  }, Stream)
  owner._streams[self] = true
  local take = runs.take
  return function()
    if self._shown then require "fzlua.progress".poll() end
    local place, out, e, node, name = take(runs)
    if out and not self._passed then -- a short form of return_result()
      self._returned = self._returned + 1
      return place, out
    end
    if place then return return_result(self, place, out, e, node, name) end
    return step(self)
  end, nil, nil, self
end

return Stream
