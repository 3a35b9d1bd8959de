--- script.lua - the code that the command line names: LUA_INIT, -e, -l, -W and the script.
--
-- A step returns a function to call and its arguments: see cli.main.

local messages = require "fzlua.messages"

local script = {}

local function checked(chunk, message)
  if not chunk then messages.fail(message) end
  return chunk
end

---Load LUA_INIT as lua5.4 does: a chunk, or @ and the name of a file.
---@return function|nil
function script.init()
  for _, name in ipairs { "LUA_INIT_5_4", "LUA_INIT" } do
    local init = os.getenv(name)
    if init then
      if init:sub(1, 1) == "@" then return checked(loadfile(init:sub(2))) end
      return checked(load(init, "=" .. name))
    end
  end
end

-- Option that runs code -> function that adds the steps of the option.
local ADD = {
  ["-e"] = function(steps, text)
    steps[#steps + 1] = function() return checked(load(text, "=(command line)")) end
  end,
  ["-W"] = function(steps)
    steps[#steps + 1] = function() warn "@on" end
  end,
  ["-l"] = function(steps, text)
    local global, module = text:match "^([^=]+)=(.*)$"
    steps[#steps + 1] = function()
      messages.set_loading(module or text)
      return require, module or text
    end
    steps[#steps + 1] = function(result)
      messages.set_loading(false)
      _G[global or text] = result
    end
  end,
}

---Add the steps of -e, -l and -W.
---@param steps function[]
---@param options fzlua.CommandLine
function script.add_steps(steps, options)
  for _, step in ipairs(options.steps) do ADD[step[1]](steps, step[2]) end
end

---Set the global `arg`: the script is at 0, the arguments before it at negative indexes.
---@param args string[]
---@param index integer|nil of the script
function script.set_arg(args, index)
  local list = {}
  for i = 0, #args do list[i - (index or 0)] = args[i] end
  _G.arg = list
end

---The arguments after the script. If there is no script, the arguments after the options.
---@param options fzlua.CommandLine
---@param args string[]
---@return string[]
function script.arguments(options, args)
  return table.move(args, options.script and options.script + 1 or options.first, #args, 1, {})
end

---Load the script.
---@param options fzlua.CommandLine
---@param args string[]
---@return function chunk
---@return ... the arguments of the script
function script.load(options, args)
  local chunk = checked(loadfile(not options.is_input and args[options.script] or nil))
  if not options.script then return chunk end
  if type(_G.arg) ~= "table" then error("'arg' is not a table", 0) end
  return chunk, table.unpack(_G.arg) -- -e and -l may have changed `arg`
end

return script
