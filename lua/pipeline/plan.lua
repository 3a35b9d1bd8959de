--- plan.lua - a chain or dag compiled to a graph of the engine.
--
-- The plan resolves all names, and is used until the next registration. It contains no state of a
-- single invoke.

local core = require "fzlua.core"
local Error = require "fzlua.error"
local check = require "fzlua.check"
local option_defaults = require "fzlua.defaults"

local NONE <const> = {}

---@class fzlua.Node one registration in one stage
---@field layer integer number of the stage, from 1; 1 in a dag
---@field stage string|nil name of the stage
---@field outputs string[]
---@field inputs string[]
---@field values integer[] for each input the number of its value in the engine
---@field first integer number of the first output's value in the engine
---@field registration table
---@field map boolean whether it calls its function for each element of its first input
---@field cache boolean|nil the option `cache` of its function or stage

---@class fzlua.Plan
---@field graph userdata
---@field nodes fzlua.Node[] by the node's number in the engine
---@field maker table<integer, integer> value -> node; inputs have none
---@field needs table[] inputs that functions read: name, value, stage, output; is_list: a map
---reads its elements
---@field layers table[] for each stage: `made`, a list of {name, value}; `passes`
---@field pools table[] for each pool: the number of its layer, the stage's name, its functions,
---whether one of them is a map
---@field limits table[] for nodes with their own limits: node, timeout, retries, ...
---@field asks boolean whether one of `limits` has a function retry_if
---@field caches boolean whether results of a node are recorded because of its own options
---@field final table[] name, value: outputs of functions that leave the last stage
---@field passes boolean whether inputs that no function makes leave the last stage
---@field defaults table|false merged options of the chain and its stages; false before the first
---invoke
---@field _names userdata|false names of the nodes for a trace; false before the first trace
---@field only table<string, boolean>|nil of a narrowed plan: the outputs that it keeps
---@field narrowed table<string, fzlua.Plan> plans for some outputs, by the outputs
local Plan = {}
Plan.__index = Plan
Plan.__name = "fzlua.Plan"

local function new()
  return setmetatable({
    graph = core.graph(option_defaults.trace), nodes = {}, maker = {}, needs = {}, layers = {},
    pools = {},
    limits = {}, asks = false, caches = false, final = {}, passes = true, defaults = false,
    narrowed = {}, _names = false,
    _inputs = {}, _kept = {}, _made = false,
  }, Plan)
end

-- The value for the input `name` of the chain. It is made when the first node reads this input.
local function input(self, name, node)
  local value = self._inputs[name]
  if not value then
    value = self.graph:input()
    self._inputs[name] = value
    self.needs[#self.needs + 1] =
      { name = name, value = value, stage = node.stage, output = node.outputs[1] }
  end
  return value
end

local function add_limits(self, id, registration, defaults)
  if not (next(registration.limits) or next(defaults)) then return end
  local own
  for _, name in ipairs(check.LIMITS) do
    local value = registration.limits[name]
    if value == nil then value = defaults[name] end
    if value ~= nil then
      own = own or { node = id }
      own[name] = value
    end
  end
  if not own then return end
  self.limits[#self.limits + 1] = own
  self.asks = self.asks or own.retry_if ~= nil
end

-- Add the node of one function, which has the number `func` in the last pool.
local function add_node(self, registration, func, layer, stage, defaults)
  local id, first = self.graph:node(#self.pools, func, #registration.outputs,
    registration.outputs, stage)
  local node = {
    id = id, layer = layer, stage = stage, outputs = registration.outputs,
    inputs = registration.inputs, values = false, first = first, registration = registration,
    map = registration.map, cache = registration.limits.cache,
  }
  if node.cache == nil then node.cache = defaults.cache end
  self.caches = self.caches or node.cache == true
  if node.map then self.graph:map(id) end
  self.nodes[id] = node
  for k = 1, #registration.outputs do self.maker[first + k - 1] = id end
  add_limits(self, id, registration, defaults)
  return node
end

local function feed(self, node, values)
  node.values = values
  self.graph:feed(node.id, values)
  local optional = node.registration.optional
  for k, name in ipairs(optional and node.inputs or NONE) do
    if optional[name] then self.graph:optional(node.id, k) end
  end
  for _, need in ipairs(node.map and self.needs or NONE) do
    need.is_list = need.is_list or need.value == values[1]
  end
end

local function any_wanted(registrations, wanted)
  for _, registration in ipairs(registrations) do
    if not wanted or wanted[registration] then return true end
  end
  return false
end

-- Add the nodes of one registry, whose functions form one pool. The caller connects their inputs.
-- If `wanted` is set, the other functions get no node, but keep their numbers in the pool.
local function add_layer(self, registry, stage, defaults, wanted)
  local layer = { made = {}, passes = true }
  local number = #self.layers + 1
  local registrations, nodes = registry:list(), {}
  self.layers[number] = layer
  if not any_wanted(registrations, wanted) then return layer, nodes, {} end
  local pool = { layer = number, stage = stage, funcs = {} }
  self.pools[#self.pools + 1] = pool
  local value_of = {}
  for i, registration in ipairs(registrations) do
    pool.funcs[i] = registration.f
    if not wanted or wanted[registration] then
      local node = add_node(self, registration, i, number, stage, defaults)
      nodes[#nodes + 1] = node
      for k, name in ipairs(registration.outputs) do
        if registry.makers[name] == registration then value_of[name] = node.first + k - 1 end
      end
    end
  end
  for _, name in ipairs(registry.order) do
    local value = value_of[name]
    if value then layer.made[#layer.made + 1] = { name = name, value = value } end
  end
  return layer, nodes, value_of
end

local function blocked(node, name, by)
  Error.graph({ stage = node.stage, output = node.outputs[1], input = name },
    "stage %s, output %s: input %s is missing: stage %s neither makes it nor passes inputs through",
    node.stage, node.outputs[1], name, by)
end

-- Collect the values that leave the last stage. They are ordered by registration, stage by stage.
local function add_final(self, live)
  local seen = {}
  for _, layer in ipairs(self.layers) do
    for _, made in ipairs(layer.made) do
      local name, value = made.name, live[made.name]
      if value and not seen[name] then
        seen[name] = true
        self.final[#self.final + 1] = value == made.value and made or { name = name, value = value }
      end
    end
  end
end

---Compile a chain.
---@param stages table[] name, registry, pass_input, options: the states of the stages
---@param wanted? table<table, boolean> the registrations to run; nil: all
---@return fzlua.Plan
function Plan.of_chain(stages, wanted)
  local self = new()
  local live = {} -- name -> value
  local wall -- the last stage that does not pass inputs
  for _, stage in ipairs(stages) do
    local layer, nodes = add_layer(self, stage.registry, stage.name, stage.options, wanted)
    for _, node in ipairs(nodes) do
      local values = {}
      for i, name in ipairs(node.inputs) do
        local value = live[name]
        if not value and wall then blocked(node, name, wall) end
        values[i] = value or input(self, name, node)
      end
      feed(self, node, values)
    end
    if not stage.pass_input then live, wall, layer.passes = {}, stage.name, false end
    for _, made in ipairs(layer.made) do live[made.name] = made.value end
  end
  self.passes = wall == nil
  add_final(self, live)
  return self
end

local CYCLE_SHOWN = 10 -- maximum number of names of a cycle that a message shows

-- A text such as "a -> b -> a": the outputs along a cycle, from the node that was added first.
local function cycle_text(self, cycle)
  local names, start = {}, 1
  for i, id in ipairs(cycle) do
    if id < cycle[start] then start = i end
  end
  for i = 1, #cycle do
    local id = cycle[(start + i - 2) % #cycle + 1]
    local following = self.nodes[cycle[(start + i - 1) % #cycle + 1]]
    for k, value in ipairs(following.values) do
      if self.maker[value] == id then
        names[i] = following.inputs[k]
        break
      end
    end
  end
  names[#names + 1] = names[1]
  if #names > CYCLE_SHOWN + 2 then
    names = table.move(names, 1, CYCLE_SHOWN, 1, { [CYCLE_SHOWN + 2] = names[#names] })
    names[CYCLE_SHOWN + 1] = "..."
  end
  return table.concat(names, " -> ")
end

---Compile a dag. Raises an error if the dag has a cycle.
---@param registry fzlua.Registry
---@param wanted? table<table, boolean> the registrations to run; nil: all
---@return fzlua.Plan
function Plan.of_dag(registry, wanted)
  local self = new()
  local _, nodes, value_of = add_layer(self, registry, nil, {}, wanted)
  for _, node in ipairs(nodes) do
    local values = {}
    for i, name in ipairs(node.inputs) do values[i] = value_of[name] or input(self, name, node) end
    feed(self, node, values)
  end
  local cycle = self.graph:cycle()
  if cycle then
    local text = cycle_text(self, cycle)
    Error.graph({ output = text:match "^(.-) %-> " }, "a cycle: %s", text)
  end
  self.passes = false
  add_final(self, value_of)
  return self
end

-- The set of the names of functions' outputs that leave the last stage.
local function made_names(self)
  if not self._made then
    local made = {}
    for _, final in ipairs(self.final) do made[final.name] = true end
    self._made = made
  end
  return self._made
end

local function no_output(name)
  Error.graph({ output = name }, "output %s is wanted, but no function makes it, and no input with "
    .. "this name passes through", name)
end

-- Add the registrations of the node that makes `value`, and of all nodes that this node needs.
local function add_makers(self, wanted, value)
  local pending = { value }
  while #pending > 0 do
    local node = self.nodes[self.maker[table.remove(pending)]]
    if node and not wanted[node.registration] then
      wanted[node.registration] = true
      table.move(node.values, 1, #node.values, #pending + 1, pending)
    end
  end
end

---The names of the nodes in a trace.
---@return userdata
function Plan:names()
  self._names = self._names or self.graph:names(self.nodes)
  return self._names
end

---A plan that runs only the functions for some outputs, and keeps only these outputs.
---@param names string[]
---@param compile fun(wanted: table<table, boolean>): fzlua.Plan of_chain() or of_dag()
---@return fzlua.Plan
function Plan:narrow(names, compile)
  local key = table.concat(names, "\0")
  local plan = self.narrowed[key]
  if plan then return plan end
  local value_of, wanted, only = {}, {}, {}
  for _, final in ipairs(self.final) do value_of[final.name] = final.value end
  for _, name in ipairs(names) do
    only[name] = true
    if value_of[name] then
      add_makers(self, wanted, value_of[name])
    elseif not self.passes then
      no_output(name)
    end
  end
  plan = compile(wanted)
  local final = {}
  for _, value in ipairs(plan.final) do
    if only[value.name] then final[#final + 1] = value end
  end
  plan.final, plan.only, plan.defaults = final, only, self.defaults
  self.narrowed[key] = plan
  return plan
end

---Raise unless each wanted output is an output of a function or is in `values`.
---@param values table
function Plan:check_outputs(values)
  if not self.only then return end
  local made = made_names(self)
  for name in pairs(self.only) do
    if not made[name] and values[name] == nil then no_output(name) end
  end
end

---The number of the layer whose node makes a value; 0 for an input of the chain.
---@param value integer
---@return integer
function Plan:layer_of(value)
  local maker = self.maker[value]
  return maker and self.nodes[maker].layer or 0
end

---The numbers of the values that a run keeps.
---@param keep "final"|"all"|nil
---@return integer[]
function Plan:kept(keep)
  keep = keep or "final"
  local values = self._kept[keep]
  if values then return values end
  values = {}
  if keep == "all" then
    for _, layer in ipairs(self.layers) do
      for _, made in ipairs(layer.made) do values[#values + 1] = made.value end
    end
  else
    for i, final in ipairs(self.final) do values[i] = final.value end
  end
  self._kept[keep] = values
  return values
end

---The needed inputs that are not in `values`, in the order of their first use.
---@param values table
---@return table[] of needs
function Plan:missing(values)
  local missing = {}
  for _, need in ipairs(self.needs) do
    if values[need.name] == nil then missing[#missing + 1] = need end
  end
  return missing
end

---The message for an input that is missing.
---@param need table of `needs`
---@return string
function Plan.missing_text(need)
  local stage = need.stage and ("stage %s, "):format(need.stage) or ""
  return ("%soutput %s: input %s is missing"):format(stage, need.output, need.name)
end

local function has_all(needs, values)
  for i = 1, #needs do
    if values[needs[i].name] == nil then return false end
  end
  return true
end

---Raise unless `values` has every needed input.
---@param values table
function Plan:check_inputs(values)
  if has_all(self.needs, values) then return end
  local missing, texts = self:missing(values), {}
  for i, need in ipairs(missing) do texts[i] = Plan.missing_text(need) end
  local first = missing[1]
  Error.graph({ stage = first.stage, output = first.output, input = first.name }, "%s",
    table.concat(texts, "\n"))
end

---Whether `name` is the output of a function and leaves the last stage.
---@param name any
---@return boolean
function Plan:makes(name)
  return made_names(self)[name] ~= nil
end

---Whether an input with this name leaves the last stage unchanged, and is wanted.
---@param name any
---@return boolean
function Plan:passes_on(name)
  return self.passes and not made_names(self)[name] and (not self.only or self.only[name] == true)
end

---Set the limits of functions and stages in a run or stream before its start. Limits in `given`,
---the options for the whole run or stream, take precedence.
---@param run userdata
---@param given table
function Plan:set_limits(run, given)
  local limits = self.limits
  for k = 1, #limits do
    local own, values = limits[k], {}
    for i, name in ipairs(check.LIMITS) do
      if given[name] == nil then values[i] = own[name] end
    end
    run:limits(own.node, table.unpack(values, 1, #check.LIMITS))
  end
end

---The function of the option retry_if for a node.
---@param id integer
---@param given table the options of the whole run
---@param merged table `given` with all defaults
---@return fun(e: fz.Error): boolean
function Plan:retry_if(id, given, merged)
  if given.retry_if then return given.retry_if end
  for _, own in ipairs(self.limits) do
    if own.node == id and own.retry_if then return own.retry_if end
  end
  return merged.retry_if
end

---Add the names of the stage and the output to the error of a node.
---@param e fz.Error
---@param node fzlua.Node
---@param output? string by default the output that failed, or the first output
---@return fz.Error e
function Plan.name_error(e, node, output)
  e.stage = e.stage or node.stage
  local failed = e.result and node.outputs[e.result]
  e.output = output or failed or node.outputs[1]
  if e.list then -- the error says that the first input of a map is not a list
    e.list, e.input = nil, node.inputs[1]
    Error.about(e, "input " .. e.input)
  end
  if failed or e.kind == "unsendable" then
    Error.about(e, "output " .. (failed or e.output))
  end
  return e
end

---The sorted names in `values` that leave the last stage unchanged.
---@param values table
---@return string[] the caller must not change it, because plans share an empty list
function Plan:passed(values)
  if not self.passes then return NONE end
  local names = {}
  for name in next, values do
    if self:passes_on(name) then names[#names + 1] = name end
  end
  if not names[2] then return names end
  table.sort(names, function(a, b)
    if type(a) == type(b) and (type(a) == "string" or type(a) == "number") then return a < b end
    return tostring(a) < tostring(b)
  end)
  return names
end

return Plan
