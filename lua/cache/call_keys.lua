--- call_keys.lua - the keys by which calls of a plan are recorded.
--
-- The key of a call is the digest of its function, its inputs, and everything else that decides
-- its results. So calls with the same key have the same results.

local Error = require "fzlua.error"
local core = require "fzlua.core"

---@class fzlua.CallKeys
---@field why table<integer, string> node -> why it cannot be recorded
---@field bases table<integer, string> node -> the part that the keys of its calls have in common
local CallKeys = {}
CallKeys.__index = CallKeys
CallKeys.__name = "fzlua.CallKeys"

-- Version of the encoding of values. It is a part of each key: a new encoding finds no old results.
local FORMAT <const> = core.encode(nil):byte(1)

---The name of a node in the store and in messages.
---@param node fzlua.Node
---@return string
function CallKeys.name(node)
  if not (node.stage or node.outputs[2]) then return node.outputs[1] end
  local outputs = table.concat(node.outputs, ",")
  return node.stage and ("%s.%s"):format(node.stage, outputs) or outputs
end

-- The text of an error. An error that means Ctrl-C is raised instead.
local function reason(e)
  if Error.is(e, "interrupted") then error(e, 0) end
  return Error.is(e) and e.message or tostring(e)
end

-- The digest of what all calls of a node, or all elements of its calls, have in common. The random
-- numbers of a call derive from the seed, the item and the number of its node.
local function common(self, what, node)
  local seed = self._seed
  return core.digest_in(self._session, what, FORMAT, self._funcs[node.id],
    node.registration.limits.version, #node.outputs, node.map, seed, seed and node.id)
end

-- The key of a call. `digests` is the concatenation of the digests of its inputs, which is
-- unambiguous because all digests have the same length. With a seed, the key includes the number of
-- the call, on which its random numbers depend.
local function key_of(self, base, digests, number)
  return core.hash(base .. digests .. (self._seed and number and ("j"):pack(number) or ""))
end

-- Set the digest of the function of a node, and of its stage's init, which sets upvalues.
local function add_digest(self, id, f, init)
  local ok, digest = pcall(core.digest_in, self._session, f, init)
  if ok then
    self._funcs[id] = digest
  else
    self.why[id] = reason(digest)
  end
end

-- Whether the base of the keys of a node depends on nothing but the function of the node.
local function is_plain(self, node)
  return not (self._seed or node.map or node.outputs[2] or node.registration.limits.version)
end

-- Add a node. `known` maps a function to the first node that has it, because many nodes may share a
-- function.
local function add_node(self, node, init, known)
  local id, f, funcs, bases = node.id, node.registration.f, self._funcs, self.bases
  local first = known[f]
  if first then
    funcs[id], self.why[id] = funcs[first], self.why[first]
  else
    known[f] = id
    add_digest(self, id, f, init)
  end
  if not funcs[id] then return end
  if first and is_plain(self, node) and is_plain(self, self._plan.nodes[first]) then
    bases[id] = bases[first]
  else
    bases[id] = common(self, "fzlua call", node)
  end
end

---The keys of the nodes of a plan for which wants(node) is true.
---@param plan fzlua.Plan
---@param states table[] of its stages
---@param seed integer|nil nil if the user has set none
---@param wants fun(node: fzlua.Node): boolean
---@return fzlua.CallKeys
function CallKeys.new(plan, states, seed, wants)
  local self = setmetatable({
    why = {}, _plan = plan, _seed = seed, _session = {}, _funcs = {}, bases = {},
  }, CallKeys)
  local known = {} -- init function -> table of first nodes
  self._session[true] = {} -- digest a table only once if several functions refer to it
  for _, node in ipairs(plan.nodes) do
    if wants(node) then
      local init = states[node.layer].options.init or false
      known[init] = known[init] or {}
      add_node(self, node, init or nil, known[init])
    end
  end
  self._session[true] = nil -- the script may change the tables from now on
  return self
end

---The digests of all recorded functions of a layer: the functions that its workers must have.
---@param layer integer
---@return string|nil nil if no function of the layer is recorded
function CallKeys:code(layer)
  local list = {}
  for id, node in ipairs(self._plan.nodes) do
    if node.layer == layer then list[#list + 1] = self._funcs[id] end
  end
  return list[1] and table.concat(list)
end

---Compute the digest of a value of the plan, if it is not known yet.
---@param digests table<integer, string> of values
---@param value integer
---@param read fun(): any
---@return string|nil digest, string|nil why not
function CallKeys:digest(digests, value, read)
  local digest = digests[value]
  if digest then return digest end
  local ok
  ok, digest = pcall(function() return core.digest_in(self._session, read()) end)
  if not ok then return nil, reason(digest) end
  digests[value] = digest
  return digest
end

---The key of a node's call, by the digests of its inputs.
---@param id integer
---@param inputs string[]
---@param item? integer of a stream
---@return string
function CallKeys:key(id, inputs, item)
  return key_of(self, self.bases[id], table.concat(inputs), item or 0)
end

---Whether the key of a call depends on the item of the stream.
---@return boolean
function CallKeys:by_item() return self._seed ~= nil end

---The call of a node whose inputs have digests.
---@param node fzlua.Node
---@param inputs string[]
---@param key string
---@return fzlua.Call
function CallKeys:call(node, inputs, key)
  return {
    name = CallKeys.name(node), func = self._funcs[node.id],
    version = node.registration.limits.version, seed = self._seed, names = node.inputs,
    inputs = inputs, files = false, n = #node.outputs, key = key,
  }
end

---The common part of the calls of all elements of a map.
---@param node fzlua.Node
---@param call fzlua.Call of the whole map
---@param item? integer of a stream
---@return fzlua.Call its `key` is the common part of their keys
function CallKeys:elements(node, call, item)
  return {
    name = call.name, func = call.func, version = call.version, seed = call.seed,
    names = call.names, inputs = table.move(call.inputs, 1, #call.inputs, 1, {}), files = false,
    n = 1,
    key = key_of(self, common(self, "fzlua element", node), table.concat(call.inputs, "", 2),
      item or 0),
  }
end

---The key of the call of an element.
---@param base fzlua.Call from elements(); its first input becomes the element
---@param value any
---@param index integer
---@return string|nil key, string|nil why not
function CallKeys:element(base, value, index)
  local ok, digest = pcall(core.digest_in, self._session, value)
  if not ok then return nil, reason(digest) end
  return key_of(self, base.key, digest, index)
end

return CallKeys
