--- call_cache.lua - recorded results for the calls of one invoke or stream.
--
-- When all inputs of a node are known, the run asks this module for the recorded results of the
-- node. If there are none, the node runs, and the run keeps the results until they are recorded. A
-- result is in the file before the run reports that its node is done. A map is recorded twice: as
-- a whole, and element by element. If its list has grown, only the new elements are computed.
--
-- A call is identified by its item (the place in a stream, or 0 in an invoke) and its node.

local CallKeys = require "fzlua.call_keys"
local Error = require "fzlua.error"
local Store = require "fzlua.store"
local core = require "fzlua.core"
local file = require "fzlua.file"
local lists = require "fzlua.lists"

---@class fzlua.CallCache
---@field keys fzlua.CallKeys
---@field plan fzlua.Plan
---@field _items table<integer, fzlua.CachedItem>
local CallCache = {}
CallCache.__index = CallCache
CallCache.__name = "fzlua.CallCache"

local call_key = core.call_key

local TOGETHER <const> = 512 -- number of nodes or elements that are looked up together

---@class fzlua.CachedItem
---@field digests table<integer, string> of values that are known
---@field calls table<integer, fzlua.Call> by node; only nodes that were looked up
---@field elements table<integer, fzlua.ElementCalls> by node, of maps

---@class fzlua.ElementCalls
---@field call fzlua.Call what the calls of all elements have in common
---@field keys table<integer, string> by index, of those that are not recorded

---A function that returns whether the results of a node are recorded. This depends on the options
---of the node and on the options of the run.
---@param options table
---@return fun(node: fzlua.Node): any
function CallCache.wants(options)
  local all = options.cache
  if all == nil then all = options.resume end
  return function(node)
    local own = node.cache
    if own == nil then return all end
    return own
  end
end

local function any_of(nodes, wants)
  for _, node in ipairs(nodes) do
    if wants(node) then return true end
  end
  return false
end

---The cache of an invoke or a stream; nil if the options ask for no recording, or if the file
---cannot be used.
---@param plan fzlua.Plan
---@param states table[] of its stages
---@param options table of the whole run
---@return fzlua.CallCache|nil
function CallCache.new(plan, states, options)
  local wants = CallCache.wants(options)
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

---Make a run or a stream, before it starts, ask this cache for the recorded results of its nodes.
---@param work userdata
---@param input table|nil the inputs by name, of a run
function CallCache:attach(work, input)
  self._work, self._inputs = work, input and {}
  for _, need in ipairs(input and self.plan.needs or {}) do
    self._inputs[need.value] = input[need.name]
  end
  work:look_up(self.keys.bases)
end

local function item_of(self, item)
  local state = self._items[item]
  if not state then
    state = { digests = {}, calls = {}, elements = {} }
    self._items[item] = state
  end
  return state
end

-- The value number `value` of an item: an input of the run, or a result of a node.
local function read(self, item, value)
  if self._inputs and not self.plan.maker[value] then return self._inputs[value] end
  return select(2, self._work:value_of(item, value))
end

-- Compute the digest of input number `i` of a node into `known`. Returns whether there is one.
local function add_digest(self, item, node, i, known)
  local value = node.values[i]
  local digest, why = self.keys:digest(known, value, function() return read(self, item, value) end)
  if digest then return true end
  Store.warn(CallKeys.name(node), ("input %s: %s"):format(node.inputs[i], why))
  return false
end

-- The key of the call of a node; false if an input has no digest. `known` has the digests of values
-- of the item.
local function key_of(self, item, node, known)
  local base, number = self.keys.bases[node.id], self.keys:by_item() and item or nil
  local key, missing = call_key(base, node.values, known, number)
  while not key do
    if not add_digest(self, item, node, missing, known) then return false end
    key, missing = call_key(base, node.values, known, number)
  end
  return key
end

-- The list of a map as the run will read it, and its length; nothing if it cannot be read.
local function read_list(self, item, node)
  local list = lists.readable(read(self, item, node.values[1]))
  local ok, n = pcall(lists.length, list)
  if ok then return list, n end
end

-- Pass the recorded elements of a map to the run. The map is not recorded as a whole.
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
      wanted[#wanted + 1] = keys[i] or false
      if why then Store.warn(base.name, ("element %d: %s"):format(i, why)) end
    end
    local found = self._store:find_all(wanted, 1, function() return base end)
    for k, place in ipairs(found.places) do
      if place then
        self._work:know(item, node.id, from + k - 1, found.results, place)
        keys[from + k - 1] = nil
      end
    end
    if found.results then found.results:close() end
  end
end

-- Report to the run that a node is not recorded. Without a key it is not recorded later, either.
local function answer_new(self, item, node, key)
  if key then
    local state, inputs = item_of(self, item), {}
    for i, value in ipairs(node.values) do inputs[i] = state.digests[value] end
    local call = self.keys:call(node, inputs, key)
    state.calls[node.id] = call
    if node.map then answer_elements(self, item, node, call) end
  end
  self._work:not_found(item, node.id)
end

-- Pass the results of the recorded nodes to the run.
local function answer_recorded(self, asked, found)
  local places, digests, nodes = found.places, found.digests, self.plan.nodes
  local last, known -- the previous item, and its digests
  for k = 1, #places do
    local place = places[k]
    if place then
      local item, node = asked[2 * k - 1], nodes[asked[2 * k]]
      if item ~= last then last, known = item, item_of(self, item).digests end
      local first = node.first
      known[first] = digests[place]
      for i = 1, #node.outputs - 1 do known[first + i] = digests[place + i] end
    end
  end
  self._work:found(asked, places, found.results)
  found.results:close()
end

-- Look up the nodes in a list of items and nodes together, and pass what is recorded to the run.
local function answer_all(self, asked)
  local keys, counts, nodes, work = {}, {}, self.plan.nodes, self._work
  local last, known -- the previous item, and its digests
  for k = 1, #asked // 2 do
    local item, node = asked[2 * k - 1], nodes[asked[2 * k]]
    if item ~= last then last, known = item, item_of(self, item).digests end
    keys[k], counts[k] = key_of(self, item, node, known), #node.outputs
  end
  local found = self._store:find_all(keys, counts,
    function(k) return { name = CallKeys.name(nodes[asked[2 * k]]) } end)
  if self._work ~= work then return end
  if found.results then answer_recorded(self, asked, found) end
  for k = 1, #asked // 2 do
    if self._work ~= work then return end
    if not found.places[k] then
      answer_new(self, asked[2 * k - 1], nodes[asked[2 * k]], keys[k])
    end
  end
end

---Look up all nodes for which the run asks.
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

-- Record the results of a node that work:made() returned.
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

-- Record results of elements of a map. The first element of `list` has the number `index`.
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

---Record all results that the run keeps for this module.
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
  -- Write now: other items of the stream may take long, and other processes wait for the file.
  if item > 0 then self._store:flush() end
end

---Remove the state of an item of a stream. The item has ended.
---@param item integer
function CallCache:forget(item) self._items[item] = nil end

---End the use of the run and of the file, because the run has ended. Idempotent.
function CallCache:detach()
  if not self._store then return end
  if self._work then pcall(self.record, self) end -- pcall: the run may have been cancelled
  self._store:flush()
  self._store:release()
  self._work, self._store = false, nil
end

return CallCache
