--- call_cache.lua - recorded results for the calls of one invoke or stream.
--
-- When the inputs of a node are there, the run asks whether its results are recorded. If they are
-- not, the node runs, and the run keeps its results until they are recorded here. A result is in
-- the file before the end of its node is reported. A map is recorded as a whole, and by its
-- elements, so that only the new elements of a list that has grown are computed.
--
-- A call is identified by its item (the place in a stream, or 0 in an invoke) and its node.

local CallKeys = require "fzlua.call_keys"
local Error = require "fzlua.error"
local Mapping = require "fzlua.mapping"
local Store = require "fzlua.store"
local core = require "fzlua.core"
local file = require "fzlua.file"

---@class fzlua.CallCache
---@field keys fzlua.CallKeys
---@field plan fzlua.Plan
---@field _items table<integer, fzlua.CachedItem>
local CallCache = {}
CallCache.__index = CallCache
CallCache.__name = "fzlua.CallCache"

local TOGETHER <const> = 512 -- number of nodes or elements that are looked up together

---@class fzlua.CachedItem
---@field digests table<integer, string> of values that are known
---@field calls table<integer, fzlua.Call> by node; only nodes that were looked up
---@field elements table<integer, fzlua.ElementCalls> by node, of maps

---@class fzlua.ElementCalls
---@field call fzlua.Call what the calls of all elements have in common
---@field keys table<integer, string> by index, of those that are not recorded

---Whether the results of a node are recorded, by its options and those of the whole run.
---@param node fzlua.Node
---@param options table
---@return boolean
function CallCache.wants(node, options)
  local own = node.cache
  if own == nil then own = options.cache end
  if own == nil then own = options.resume end
  return own and true or false
end

local function any_of(nodes, wants)
  for _, node in ipairs(nodes) do
    if wants(node) then return true end
  end
  return false
end

---The cache of an invoke or a stream; nil if no function of the plan is to be recorded, or if the
---file cannot be used.
---@param plan fzlua.Plan
---@param states table[] of its stages
---@param options table of the whole run
---@return fzlua.CallCache|nil
function CallCache.new(plan, states, options)
  local function wants(node) return CallCache.wants(node, options) end
  local store = any_of(plan.nodes, wants) and Store.acquire(Store.path_of(options))
  if not store then return nil end
  local ok, keys = pcall(CallKeys.new, plan, states, options.given_seed, wants)
  if not ok then
    store:release()
    error(keys, 0)
  end
  for id, why in pairs(keys.why) do Store.warn(CallKeys.name(plan.nodes[id]), why) end
  return setmetatable({ keys = keys, plan = plan, _store = store, _items = {}, _work = false },
    CallCache)
end

---Ask for the nodes of a run or a stream that has not started.
---@param work userdata
---@param input table|nil the inputs by name, of a run
function CallCache:attach(work, input)
  self._work, self._inputs = work, input and {}
  for _, need in ipairs(input and self.plan.needs or {}) do
    self._inputs[need.value] = input[need.name]
  end
  for id in ipairs(self.plan.nodes) do
    if self.keys:has(id) then work:look_up(id) end
  end
end

local function item_of(self, item)
  local state = self._items[item]
  if not state then
    state = { digests = {}, calls = {}, elements = {} }
    self._items[item] = state
  end
  return state
end

-- A value of the item.
local function read(self, item, value)
  if self._inputs and not self.plan.maker[value] then return self._inputs[value] end
  return select(2, self._work:value_of(item, value))
end

-- Compute the digest of input number `i` of a node, which is not in `known`. Returns nil if the
-- input has none.
local function input_digest(self, item, node, i, known)
  local value = node.values[i]
  local digest, why = self.keys:digest(known, value, function() return read(self, item, value) end)
  if digest then return digest end
  Store.warn(CallKeys.name(node), ("input %s: %s"):format(node.inputs[i], why))
end

-- The digests of the inputs of a node; nil if an input has none. `known` has the digests of values
-- of the item.
local function input_digests(self, item, node, known)
  local digests, values = {}, node.values
  for i = 1, #values do
    digests[i] = known[values[i]] or input_digest(self, item, node, i, known)
    if not digests[i] then return nil end
  end
  return digests
end

local function set_digests(self, item, node, digests)
  local known, first = item_of(self, item).digests, node.first
  known[first] = digests[1]
  for i = 2, #digests do known[first + i - 1] = digests[i] end
end

-- The list of a map as the run will read it, and its length; nothing if it cannot be read.
local function read_list(self, item, node)
  local list = Mapping.readable(read(self, item, node.values[1]))
  local ok, n = pcall(Mapping.length, list)
  if ok then return list, n end
end

-- Answer for the elements of a map that is not recorded as a whole.
local function answer_elements(self, item, node, call)
  local list, n = read_list(self, item, node)
  if not list then return end
  local base, keys = self.keys:elements(node, call, item), {}
  item_of(self, item).elements[node.id] = { call = base, keys = keys }
  for from = 1, n, TOGETHER do
    local wanted, last = {}, math.min(from + TOGETHER - 1, n)
    for i = from, last do
      local why
      keys[i], why = self.keys:element(base, list[i], i)
      wanted[#wanted + 1] = keys[i]
      if why then Store.warn(base.name, ("element %d: %s"):format(i, why)) end
    end
    local found = self._store:find_all(wanted, 1, function() return base.name end)
    for i = from, last do
      local recorded = found[keys[i]]
      if recorded then
        self._work:know(item, node.id, i, recorded.values[1])
        keys[i] = nil
      end
    end
  end
end

-- Answer for one node. Without a key its call cannot be recorded.
local function answer(self, item, node, key, inputs, recorded)
  if recorded then
    set_digests(self, item, node, recorded.digests)
    return self._work:found(item, node.id, recorded.values)
  end
  if key then
    local call = self.keys:call(node, inputs, key)
    item_of(self, item).calls[node.id] = call
    if node.map then answer_elements(self, item, node, call) end
  end
  self._work:not_found(item, node.id)
end

-- Answer for the nodes in a list of items and nodes, whose calls are looked up together.
local function answer_all(self, asked)
  local inputs, key_of, node_of, counts, keys = {}, {}, {}, {}, {}
  local nodes, call_keys = self.plan.nodes, self.keys
  local last, known -- the item before, and its digests
  for k = 1, #asked, 2 do
    local item, id = asked[k], asked[k + 1]
    if item ~= last then last, known = item, item_of(self, item).digests end
    local digests = input_digests(self, item, nodes[id], known)
    if digests then
      local key = call_keys:key(id, digests, item)
      inputs[k], key_of[k], keys[#keys + 1] = digests, key, key
      node_of[key], counts[key] = nodes[id], #nodes[id].outputs
    end
  end
  local work, found = self._work, self._store:find_all(keys, counts,
    function(key) return CallKeys.name(node_of[key]) end)
  for k = 1, #asked, 2 do
    local key = key_of[k]
    answer(self, asked[k], nodes[asked[k + 1]], key, inputs[k], key and found[key])
    if self._work ~= work then return end
  end
end

---Answer for all nodes for which the run asks.
function CallCache:answer()
  local work = self._work
  local asked = work:asked(TOGETHER)
  if not asked[1] then return end
  while asked[1] do
    answer_all(self, asked)
    if self._work ~= work then return end
    asked = work:asked(TOGETHER)
  end
  self._store:flush()
end

-- Record the values of work:made().
local function record(self, item, id)
  local node, state = self.plan.nodes[id], item_of(self, item)
  local call, values, digests, before = state.calls[id], {}, {}, file.seen
  if not call then return end
  for k = 1, #node.outputs do
    local why
    local bytes = self._work:made_bytes(k)
    values[k] = bytes
    if Store.has_functions(bytes) then return Store.warn(call.name, Store.FUNCTIONS) end
    digests[k], why = self.keys:digest(state.digests, node.first + k - 1,
      function() return core.decode(bytes) end)
    if not digests[k] then return Store.warn(call.name, why) end
  end
  call.files = file.seen ~= before
  self._store:add(call, values, digests)
end

-- Record the results of elements of a map, the first with number `index`.
local function record_elements(self, item, id, index, list)
  local elements = item_of(self, item).elements[id]
  for i = 1, elements and list.n or 0 do
    local key = elements.keys[index + i - 1]
    elements.keys[index + i - 1] = nil
    if key then self._store:add_values(elements.call, key, list[i]) end
  end
end

-- Call f(...), and log an error: a result that cannot be recorded does not end the run.
local function try(name, f, ...)
  local ok, e = pcall(f, ...)
  if ok then return end
  if Error.is(e, "interrupted") then error(e, 0) end
  Store.warn(name, tostring(e))
end

---Record all values that were made.
function CallCache:record()
  local work, any = self._work, false
  local item, id, index, _, list = work:elements()
  while item do
    any = true
    try(CallKeys.name(self.plan.nodes[id]), record_elements, self, item, id, index, list)
    item, id, index, _, list = work:elements()
  end
  item, id = work:made()
  while item do
    any = true
    local ok, e = pcall(try, CallKeys.name(self.plan.nodes[id]), record, self, item, id)
    work:recorded()
    if not ok then error(e, 0) end
    item, id = work:made()
  end
  if any then self._store:flush() end
end

---Note that a node has failed.
---@param id integer
---@param e fz.Error
---@param item integer
function CallCache:fail(id, e, item)
  local state = self._items[item]
  local call = state and state.calls[id]
  self._store:fail(CallKeys.name(self.plan.nodes[id]), call and call.key, e.message or "")
  -- Other items of a stream may take long, and other processes wait for the file.
  if item > 0 then self._store:flush() end
end

---Drop the state of an item of a stream, which has ended.
---@param item integer
function CallCache:forget(item) self._items[item] = nil end

---End the use of the run and of the file, because the run has ended. Idempotent.
function CallCache:detach()
  if not self._store then return end
  if self._work then pcall(self.record, self) end -- the run may have been cancelled
  self._store:flush()
  self._store:release()
  self._work, self._store = false, nil
end

return CallCache
