--- stage.lua - a set of functions, named by their outputs.
--
-- `function stage.NAME(A, B)` registers a function. So all names of fields belong to the user, and
-- the state of a stage is stored under one private key.

local Error = require "fzlua.error"
local Registry = require "fzlua.registry"
local check = require "fzlua.check"
local lists = require "fzlua.lists"
local made = require "fzlua.made"

local Stage = { __name = "fzlua.Stage", __fzpack = false } -- cannot be sent

local STATE = {}

local stage = {}

function stage.is(value)
  return getmetatable(value) == Stage
end

---The state of a stage: name, registry, options, pass_input, input, output.
---@param self fzlua.Stage
---@return table
function stage.state(self)
  return rawget(self, STATE)
end

function stage.new(options)
  if type(options) == "string" then options = { name = options } end
  options = check.options(options or {}, check.STAGE, 1, "fz.stage")
  local state = {
    name = options.name or "stage", registry = Registry.new(), options = options,
    pass_input = options.pass_input ~= false, input = {}, output = {},
  }
  made.stage = true
  return setmetatable({ [STATE] = state }, Stage)
end

local methods = {}

-- Register `f` as the function of `output`. If no inputs are given, `f` reads the input of the same
-- name.
function methods:register(output, ...)
  if not stage.is(self) then check.no_self("stage", "register") end
  local outputs, inputs, f, limits = Registry.parse("register", output, ...)
  if not inputs then
    if type(output) ~= "string" then
      check.fail("bad argument #2 to 'register' (with a list of outputs, inputs must be named)")
    end
    inputs = { output }
  end
  local state = self[STATE]
  state.registry:add(outputs, inputs, f, limits, state.name)
  return f
end

-- Register `f` as the function of a map. It is called for each element of a list, and each call is
-- a separate job.
function methods:map(output, ...)
  local outputs, inputs, f, limits = Registry.parse_map("map", output, ...)
  local state = self[STATE]
  state.registry:add(outputs, inputs or { output }, f, limits, state.name, true)
  return f
end

local function read_inputs(state, output, inputs, optional)
  local values = { n = #inputs }
  for i, name in ipairs(inputs) do
    values[i] = state.input[name]
    if values[i] == nil and not (optional and optional[name]) then
      Error.graph({ stage = state.name, output = output, input = name },
        "stage %s, output %s: input %s is missing", state.name, output, name)
    end
  end
  return values
end

-- Call the function of a map for each element, in this process.
local function map_here(state, maker, arguments, n)
  local list, name = arguments[1], maker.inputs[1]
  if type(list) ~= "table" then
    error(Error.new {
      kind = "error", stage = state.name, output = maker.outputs[1], input = name,
      message = ("input %s: a list expected, got a %s"):format(name, check.typename(list)),
    }, 0)
  end
  list = lists.readable(list)
  local results = { n = lists.length(list) }
  for i = 1, results.n do results[i] = (maker.f(list[i], table.unpack(arguments, 2, n))) end
  return { results }
end

-- Run one function in this process, with the inputs that are set in the stage.
function methods:invoke(name, ...)
  check.type(name, "string", 1, "invoke")
  local state = self[STATE]
  local maker = state.registry.makers[name]
  if not maker then
    return read_inputs(state, name, { name })[1]
  end
  local arguments, extra = read_inputs(state, name, maker.inputs, maker.optional), table.pack(...)
  table.move(extra, 1, extra.n, arguments.n + 1, arguments)
  local n = arguments.n + extra.n
  local results = maker.map and map_here(state, maker, arguments, n)
    or { maker.f(table.unpack(arguments, 1, n)) }
  local index
  for i, output in ipairs(maker.outputs) do
    if state.registry.makers[output] == maker then state.output[output] = results[i] end
    if output == name then index = i end
  end
  return results[index]
end

-- Run all functions in workers, with the inputs that are set in the stage. Sets the output of the
-- stage.
function methods:invoke_all(options)
  local state = self[STATE]
  state.chain = state.chain or require("fzlua.chain").new({ self })
  state.output = state.chain(state.input, options)
  return self
end

function methods:chain(other)
  return require("fzlua.chain").join(self, other)
end

function methods:prune()
  local state = self[STATE]
  state.input, state.output = {}, {}
  return self
end

local getters = {
  name = function(state) return state.name end,
  input = function(state) return state.input end,
  output = function(state) return state.output end,
  pass_input = function(state) return state.pass_input end,
  workers = function(state) return state.options.workers end,
  init = function(state) return state.options.init end,
}

function getters.funcs(state)
  local funcs = {}
  for name, maker in pairs(state.registry.makers) do funcs[name] = maker.f end
  return funcs
end

function getters.funcs_args(state)
  local args = {}
  for name, maker in pairs(state.registry.makers) do
    args[name] = table.move(maker.inputs, 1, #maker.inputs, 1, {})
  end
  return args
end

local setters = {}

function setters.input(state, value)
  if type(value) ~= "table" then
    check.fail("stage %s: input must be a table, not a %s", state.name, check.typename(value))
  end
  state.input = value
end

function setters.pass_input(state, value)
  state.pass_input = check.option("pass_input", value, "stage " .. state.name)
  state.registry.version = state.registry.version + 1
end

function setters.workers(state, value)
  if value ~= nil then value = check.option("workers", value, "stage " .. state.name) end
  state.options.workers = value
  state.registry.version = state.registry.version + 1
end

-- A function that raises an error, if `name` is a method of chains that users may call on a stage
-- by mistake; else nil.
local function refused(name)
  if name ~= "stream" and name ~= "invoke_async" then return nil end
  return function()
    check.fail("a stage has no method '%s': use fz.chain{s}:%s(...) or (s >> t):%s(...)", name,
      name, name)
  end
end

function Stage:__index(name)
  local method = methods[name]
  if method then return method end
  local state, getter = rawget(self, STATE), getters[name]
  if getter then return getter(state) end
  local maker = state.registry.makers[name]
  if maker then return maker.f end
  return refused(name)
end

-- The names of the parameters of `f`, which are its inputs.
local function parameters(name, f)
  local info = debug.getinfo(f, "uS")
  local advice = ('use stage:register("%s", {inputs...}, f)'):format(name)
  if info.what == "C" or info.isvararg then
    check.fail("output %s: a %s does not name its inputs; %s", name,
      info.what == "C" and "C function" or "function with ...", advice)
  end
  local inputs = {}
  for i = 1, info.nparams do
    inputs[i] = debug.getlocal(f, i)
    if not inputs[i] then check.fail("output %s: its inputs have no names; %s", name, advice) end
  end
  if inputs[1] == "self" then
    check.fail("output %s: write 'function stage.%s(...)', with a dot", name, name)
  end
  return inputs
end

function Stage:__newindex(name, value)
  local state = rawget(self, STATE)
  local setter = setters[name]
  if setter and type(value) ~= "function" then return setter(state, value) end
  if methods[name] or getters[name] then
    check.fail("'%s' is a member of every stage: use stage:register(\"%s\", ...)", name, name)
  end
  if type(name) ~= "string" or type(value) ~= "function" then
    check.fail("stage %s: %s must be a function, not a %s", state.name, tostring(name),
      check.typename(value))
  end
  state.registry:add({ name }, parameters(name, value), value, {}, state.name)
end

function Stage:__call(name, ...)
  return methods.invoke(self, name, ...)
end

function Stage.__shr(a, b)
  return require("fzlua.chain").join(a, b)
end

function Stage:__tostring()
  return ("Stage(%s)"):format(self[STATE].name)
end

return stage
