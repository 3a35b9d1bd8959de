--- registry.lua - the functions of a stage or dag by their outputs, in the order of registration.
--
-- A registry does not know the graph: the plan checks whether the inputs exist.

local Error = require "fzlua.error"
local check = require "fzlua.check"
local nearest = require "fzlua.nearest"

---@class fzlua.Registration
---@field outputs string[] names for the function's results, in order
---@field inputs string[]
---@field f function
---@field limits table timeout, retries, backoff, memory, retry_if of this function
---@field optional table<string, boolean>|nil inputs that are nil if their maker failed
---@field live integer outputs that no later registration has replaced
---@field map boolean whether f is called for each element of the first input, a list
---@field version integer of the registry when it was registered

---@class fzlua.Registry
---@field order string[] outputs, in order of first registration
---@field makers table<string, fzlua.Registration>
---@field version integer incremented by every registration
---@field planned integer the version at the last plan, which lacks newer registrations; 0: none
local Registry = {}
Registry.__index = Registry
Registry.__name = "fzlua.Registry"

function Registry.new()
  return setmetatable({ order = {}, makers = {}, version = 1, planned = 0 }, Registry)
end

local function distinct(outputs, where)
  local seen = {}
  for _, name in ipairs(outputs) do
    if seen[name] then
      Error.graph({ stage = where, output = name }, "%soutput %s is named twice",
        where and ("stage %s: "):format(where) or "", name)
    end
    seen[name] = true
  end
end

---Split (output, [inputs,] f [, options]) into its parts and check them.
---@param what string the call, as the user writes it
---@return string[] outputs, string[]|nil inputs, function f, table limits
function Registry.parse(what, output, ...)
  local outputs = check.names(output, 1, what)
  if #outputs == 0 then check.fail("bad argument #1 to '%s' (no output is named)", what) end
  local inputs, f, options = ...
  local arg = 3
  if type(inputs) == "function" then
    inputs, f, options, arg = nil, inputs, f, 2
  else
    inputs = check.names(inputs, 2, what)
  end
  check.type(f, "function", arg, what)
  return outputs, inputs, f, check.options(options, check.FUNCTION, arg + 1, what)
end

-- The set of inputs in the option `optional`.
local function optional_inputs(outputs, inputs, option)
  if not option then return nil end
  local is_input, optional = {}, {}
  for _, name in ipairs(inputs) do is_input[name] = true end
  if option == true then return is_input end
  for _, name in ipairs(option) do
    if not is_input[name] then
      local near = nearest(name, inputs)
      check.fail("bad option 'optional' (output %s has no input %s%s)", outputs[1], name,
        near and "; the nearest name is " .. near or "")
    end
    optional[name] = true
  end
  return optional
end

---Split the arguments of a map, as parse() does. It has one output, and a list as its first input.
---@param what string the call, as the user writes it
---@param output string
---@return string[] outputs, string[]|nil inputs, function f, table limits
function Registry.parse_map(what, output, ...)
  check.type(output, "string", 1, what)
  local outputs, inputs, f, limits = Registry.parse(what, output, ...)
  if inputs and #inputs == 0 then
    check.fail("bad argument #2 to '%s' (the name of the list is missing)", what)
  end
  return outputs, inputs, f, limits
end

-- A text "a function at FILE:LINE", or "a function of C".
local function described(f)
  local info = debug.getinfo(f, "S")
  if info.what == "C" then return "a function of C" end
  return ("the function at %s:%d"):format(info.short_src, info.linedefined)
end

---Raise if an output has a function that was registered since the last plan was made. Such a
---function has never run, and would be replaced without a message. At the prompt this is allowed.
---@param outputs string[]
---@param f function
function Registry:check_new(outputs, f)
  for _, name in ipairs(outputs) do
    local earlier = self.makers[name]
    if earlier and earlier.version >= self.planned and not check.at_prompt() then
      Error.graph({ output = name }, "%soutput %s is made twice, by %s and by %s", check.where(),
        name, described(earlier.f), described(f))
    end
  end
end

---Register `f`. It replaces earlier registrations of the same outputs.
---@param outputs string[]
---@param inputs string[]
---@param f function
---@param limits table see check.FUNCTION
---@param where string|nil the stage, for errors
---@param map? boolean
function Registry:add(outputs, inputs, f, limits, where, map)
  distinct(outputs, where)
  local registration = {
    outputs = outputs, inputs = inputs, f = f, limits = limits, live = #outputs,
    optional = optional_inputs(outputs, inputs, limits.optional), map = map or false,
    version = self.version,
  }
  for _, name in ipairs(outputs) do
    local earlier = self.makers[name]
    if earlier then
      earlier.live = earlier.live - 1
    else
      self.order[#self.order + 1] = name
    end
    self.makers[name] = registration
  end
  self.version = self.version + 1
end

---The registrations that still have outputs, ordered by their first output.
---@return fzlua.Registration[]
function Registry:list()
  local list, seen = {}, {}
  for _, name in ipairs(self.order) do
    local registration = self.makers[name]
    if not seen[registration] then
      seen[registration] = true
      list[#list + 1] = registration
    end
  end
  return list
end

return Registry
