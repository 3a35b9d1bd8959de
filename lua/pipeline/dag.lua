--- dag.lua - a graph of functions without stages.

local Pipeline = require "fzlua.pipeline"
local Plan = require "fzlua.plan"
local Registry = require "fzlua.registry"
local check = require "fzlua.check"
local made = require "fzlua.made"

local Dag = { __name = "fzlua.Dag", __fzpack = false } -- a dag cannot be sent to another process

local dag = {}

function dag.is(value)
  return getmetatable(value) == Dag
end

-- Make a graph. `options` contains name, workers, init, and defaults for invoke.
function dag.new(options)
  options = check.options(options, check.DAG, 1, "fz.dag")
  return setmetatable(Pipeline.init({ _registry = Registry.new() }, options), Dag)
end

local methods = Pipeline.methods()

-- Add a node. It replaces the node with the same output if that node has been in a run.
function methods:add(output, ...)
  if getmetatable(self) ~= Dag then check.no_self("dag", "add") end
  local outputs, inputs, f, limits = Registry.parse("add", output, ...)
  self._registry:check_new(outputs, f)
  self._registry:add(outputs, inputs or {}, f, limits)
  return f
end

-- Add a node that calls `f` for each element of a list. Each call is a separate job.
function methods:map(output, inputs, f, ...)
  if type(inputs) == "function" then
    check.fail("bad argument #2 to 'map' (the name of a list expected, got a function)")
  end
  local outputs, names, each, limits = Registry.parse_map("map", output, inputs, f, ...)
  self._registry:check_new(outputs, each)
  self._registry:add(outputs, names, each, limits, nil, true)
  return each
end

function methods:_states()
  return { { name = self._options.name, registry = self._registry, options = self._options } }
end

function methods:_compile()
  made.used = true
  self._registry.planned = self._registry.version
  if self._plan_key ~= self._registry.version then
    self._plan, self._plan_key = Plan.of_dag(self._registry), self._registry.version
  end
  return self._plan
end

function methods:_compile_only(wanted)
  return Plan.of_dag(self._registry, wanted)
end

-- One row per input of each node.
function methods:as_table()
  return require("fzlua.tables").dag_table(self:_compile())
end

function methods:to_mermaid()
  return require("fzlua.draw").mermaid(self:_compile())
end

function methods:to_dot()
  return require("fzlua.draw").dot(self:_compile())
end

local getters = {
  input = function(self) return self._input end,
  output = function(self) return self._output end,
  errors = function(self) return self._errors end,
  trace = function(self) return self._trace or nil end,
}

function Dag:__index(name)
  local getter = getters[name]
  if getter then return getter(self) end
  return methods[name]
end

Dag.__newindex = Pipeline.set
Dag.__call = Pipeline.call
Dag.__close = Pipeline.leave

function Dag:__tostring()
  made.used = true
  return ("Dag(%d nodes)"):format(#self._registry:list())
end

return dag
