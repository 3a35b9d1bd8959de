--- call_cache.lua - recorded results for the calls of one invoke.
--
-- The run asks for each node that may be known, once its inputs are there, and keeps the values
-- that a node has made until they are recorded here. A result is in the file before its end is
-- reported.

local CallKeys = require "fzlua.call_keys"
local Error = require "fzlua.error"
local Store = require "fzlua.store"
local core = require "fzlua.core"
local file = require "fzlua.file"
local log = require "fzlua.log"

---@class fzlua.CallCache
---@field keys fzlua.CallKeys
local CallCache = {}
CallCache.__index = CallCache
CallCache.__name = "fzlua.CallCache"

---Whether a node takes part, by its options and those of the whole run.
---@param node fzlua.Node
---@param options table
---@return boolean
function CallCache.wants(node, options)
  local own = node.cache
  if own == nil then own = options.cache end
  if own == nil then own = options.resume end
  return own and true or false
end

-- The file of the options.
local function path_of(options)
  return type(options.resume) == "string" and options.resume or Store.default_path()
end

local warned = {} -- function names for which it was logged that they are not recorded

local function warn(name, why)
  if warned[name] then return end
  warned[name] = true
  log.warn("%s is not recorded: %s", name, why)
end

---The cache of an invoke; nil if no function of the plan takes part, or the file cannot be used.
---@param plan fzlua.Plan
---@param states table[] of its stages
---@param options table of the whole run
---@return fzlua.CallCache|nil
function CallCache.new(plan, states, options)
  local function wants(node) return CallCache.wants(node, options) end
  local any = false
  for _, node in ipairs(plan.nodes) do any = any or wants(node) end
  local store = any and Store.acquire(path_of(options))
  if not store then return nil end
  local ok, keys = pcall(CallKeys.new, plan, states, options.given_seed, wants)
  if not ok then
    store:release()
    error(keys, 0)
  end
  for id, why in pairs(keys.why) do warn(CallKeys.name(plan.nodes[id]), why) end
  return setmetatable({ keys = keys, plan = plan, _store = store, _calls = {}, _run = nil },
    CallCache)
end

---Ask for the nodes of a run that has not started.
---@param run userdata
---@param input table the inputs by name
function CallCache:attach(run, input)
  self._run, self._inputs = run, {}
  for _, need in ipairs(self.plan.needs) do self._inputs[need.value] = input[need.name] end
  for id in ipairs(self.plan.nodes) do
    if self.keys:has(id) then run:look_up(id) end
  end
end

-- The digests of the inputs of a node.
local function input_digests(self, node)
  local digests = {}
  for i, value in ipairs(node.values) do
    local why
    digests[i], why = self.keys:digest(value, function()
      if not self.plan.maker[value] then return self._inputs[value] end
      return select(2, self._run:value(value))
    end)
    if not digests[i] then return nil, ("input %s: %s"):format(node.inputs[i], why) end
  end
  return digests
end

local function set_digests(self, node, digests)
  for i, digest in ipairs(digests) do self.keys:set(node.first + i - 1, digest) end
end

-- Answer for one node. Returns whether it was recorded.
local function answer(self, id)
  local node, run = self.plan.nodes[id], self._run
  local digests, why = input_digests(self, node)
  if not digests then
    warn(CallKeys.name(node), why)
    run:not_found(id)
    return false
  end
  local call = self.keys:call(node, digests)
  self._calls[id] = call
  local recorded = self._store:find(call.key, #node.outputs, call.name)
  if not recorded then
    run:not_found(id)
    return false
  end
  set_digests(self, node, recorded.digests)
  self._store:use(call.key)
  run:found(id, recorded.values)
  return true
end

---Answer for all nodes for which the run asks.
---@param found fun(id: integer) called for each that was recorded; may close the run
function CallCache:answer(found)
  local run = self._run
  local id = run:asked()
  while id do
    if answer(self, id) then
      found(id)
      if self._run ~= run then return end
    end
    id = run:asked()
  end
  self._store:flush()
end

-- Digest a value that was made. Returns nil and the reason if it cannot be recorded.
local function digest_made(self, value, bytes)
  if Store.has_functions(bytes) then return nil, "a function is among its values" end
  return self.keys:digest(value, function() return core.decode(bytes) end)
end

local function record(self, id)
  local node, call = self.plan.nodes[id], self._calls[id]
  local values, digests, before = {}, {}, file.seen
  if not call then return end
  for k = 1, #node.outputs do
    local why
    values[k] = self._run:made_bytes(k)
    digests[k], why = digest_made(self, node.first + k - 1, values[k])
    if not digests[k] then return warn(call.name, why) end
  end
  call.files = file.seen ~= before
  self._store:add(call, values, digests)
end

---Record all values that were made.
function CallCache:record()
  local run = self._run
  local id = run:made()
  if not id then return end
  while id do
    local ok, e = pcall(record, self, id)
    run:recorded()
    if not ok then
      if Error.is(e, "interrupted") then error(e, 0) end
      warn(CallKeys.name(self.plan.nodes[id]), tostring(e))
    end
    id = run:made()
  end
  self._store:flush()
end

---Note that a node has failed.
---@param id integer
---@param e fz.Error
function CallCache:fail(id, e)
  local call = self._calls[id]
  self._store:fail(CallKeys.name(self.plan.nodes[id]), call and call.key, e.message or "")
end

---The run has ended, and is not used any more. Idempotent.
function CallCache:detach()
  if not self._store then return end
  if self._run then pcall(self.record, self) end -- it may have been cancelled
  self._store:flush()
  self._store:release()
  self._run, self._store = nil, nil
end

return CallCache
