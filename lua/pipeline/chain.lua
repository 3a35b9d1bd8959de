--- chain.lua - stages in a row.
--
-- The operator >> makes a new chain, and does not change its operands.

local Error = require "fzlua.error"
local Pipeline = require "fzlua.pipeline"
local Plan = require "fzlua.plan"
local check = require "fzlua.check"
local made = require "fzlua.made"
local stage = require "fzlua.stage"

-- A chain cannot be sent to another process.
local Chain = { __name = "fzlua.Chain", __fzpack = false }

local chain = {}

local function is_chain(value)
  return getmetatable(value) == Chain
end

chain.is = is_chain

-- Append `operand`: a stage, or all stages of a chain. Returns false for other values.
local function append(stages, operand)
  if stage.is(operand) then
    stages[#stages + 1] = operand
    return true
  end
  if not is_chain(operand) then return false end
  table.move(operand._stages, 1, #operand._stages, #stages + 1, stages)
  return true
end

local function make(stages, options)
  local seen = {}
  for _, each in ipairs(stages) do
    if seen[each] then
      Error.graph({ stage = each.name }, "stage %s is in the chain twice", each.name)
    end
    seen[each] = true
  end
  return setmetatable(Pipeline.init({ _stages = stages }, options), Chain)
end

-- Make a chain of stages and chains, in the order of the list.
function chain.new(list, options)
  check.type(list, "table", 1, "fz.chain")
  local stages = {}
  if stage.is(list) or is_chain(list) then list = { list } end
  for i, operand in ipairs(list) do
    if not append(stages, operand) then
      check.fail("bad argument #1 to 'fz.chain' (element %d is a %s, not a stage)", i,
        check.typename(operand))
    end
  end
  return make(stages, check.options(options, check.INVOKE, 2, "fz.chain"))
end

---`a >> b`. The new chain has the options of both. If an option differs, the value of `a` is used.
---@return fzlua.Chain
function chain.join(a, b)
  local stages, options = {}, {}
  for i, operand in ipairs { a, b == nil and false or b } do
    if not append(stages, operand) then
      check.fail("cannot chain a %s (operand %d of >> must be a stage or a chain)",
        b == nil and i == 2 and "nil" or check.typename(operand), i)
    end
    for name, value in pairs(is_chain(operand) and operand._options or {}) do
      if options[name] == nil then options[name] = value end
    end
  end
  return make(stages, options)
end

local methods = Pipeline.methods()

function methods:_states()
  if not self._state_list then
    local states = {}
    for i, each in ipairs(self._stages) do states[i] = stage.state(each) end
    self._state_list = states
  end
  return self._state_list
end

-- Whether no stage has changed since `key` was made. `key` contains the versions of the stages.
local function is_current(states, key)
  for i = 1, #states do
    if states[i].registry.version ~= key[i] then return false end
  end
  return true
end

-- The plan. It is compiled again if a stage has changed.
function methods:_compile()
  local states, key = self._state_list or self:_states(), self._plan_key
  made.used = true
  if not key or not is_current(states, key) then
    key = {}
    for i, state in ipairs(states) do key[i] = state.registry.version end
    self._plan, self._plan_key = Plan.of_chain(states), key
  end
  return self._plan
end

function methods:_compile_only(wanted)
  return Plan.of_chain(self:_states(), wanted)
end

function methods:chain(other)
  return chain.join(self, other)
end

local function index_of(self, which)
  local index = math.type(which) and math.tointeger(which)
  for i, each in ipairs(self._stages) do
    if each == which then index = i end
  end
  if not index or not self._stages[index] then
    check.fail("bad argument #1 to 'at' (a stage of the chain or its index expected)")
  end
  return index
end

-- The values that left a stage in the last invoke, which must have had the option keep = "all".
function methods:at(which)
  local index = index_of(self, which)
  if self._layers then return self._layers[index] end
  if index == #self._stages then return self._output end
  Error.raise("error", 'chain:at needs an invoke with keep = "all"')
end

---What each stage did to the values in `invocation`, which had the option keep = "all".
---@param invocation fzlua.Invocation
---@return fzlua.Table
function methods:_changes(invocation)
  local names = {}
  for i, each in ipairs(self._stages) do names[i] = each.name end
  return require "fzlua.changes".rows(invocation.plan, names, invocation.layers, invocation.input)
end

-- What each stage did to the values in the last invoke, which must have had the option keep =
-- "all".
function methods:changes()
  if type(self) ~= "table" or not is_chain(self) then check.no_self("chain", "changes") end
  if not self._last then
    Error.raise("error", 'chain:changes needs an invoke with keep = "all"')
  end
  return self:_changes(self._last)
end

-- One row per input of each output.
function methods:as_table()
  return require("fzlua.tables").as_table(self:_compile())
end

function methods:to_mermaid()
  return require("fzlua.draw").mermaid(self:_compile(), self:_states())
end

function methods:to_dot()
  return require("fzlua.draw").dot(self:_compile(), self:_states())
end

local getters = {
  input = function(self) return self._input end,
  output = function(self) return self._output end,
  errors = function(self) return self._errors end,
  trace = function(self) return self._trace or nil end,
  stages = function(self) return table.move(self._stages, 1, #self._stages, 1, {}) end,
  edge_table = function(self) return require("fzlua.tables").edge_table(self:_compile()) end,
}

function Chain:__index(name)
  local method = methods[name] -- check methods first, because an invoke calls several of them
  if method then return method end
  local getter = getters[name]
  if getter then return getter(self) end
  return math.type(name) and rawget(self, "_stages")[name] or nil
end

Chain.__newindex = Pipeline.set
Chain.__call = Pipeline.call
Chain.__close = Pipeline.leave
Chain.__shr = chain.join

function Chain:__len()
  return #self._stages
end

function Chain:__tostring()
  made.used = true
  local names = {}
  for i, each in ipairs(self._stages) do names[i] = ("%s(%d)"):format(each.name, i) end
  return ("StageChain(%s)"):format(table.concat(names, " >> "))
end

return chain
