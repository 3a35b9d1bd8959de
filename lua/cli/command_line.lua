--- command_line.lua - reads the options of the command line.
--
-- Wrong use raises an error: see messages.misuse.
--
-- The table of all options is loaded only if an option is used that lua5.4 does not have.

local messages = require "fzlua.messages"

---@class fzlua.CommandLine the fields `set` of options.lua, and:
---@field run table<string, any> options of all invokes, checked and converted
---@field steps string[][] name and text of -e, -l and -W, in their order
---@field first integer index of the first argument after the options
---@field script integer|nil index of the script, if there is one
---@field is_input boolean whether the script is standard input
---@field module string|nil replaces the script: see options.lua

local command_line = {}

local function nearest(name, names) return require "fzlua.nearest"(name, names) end

-- The option with this name, or nil.
local function find(name)
  return require "fzlua.lua_options".named[name] or require "fzlua.options".named[name]
end

-- The option with the name nearest to `word`, with its dashes; nil if no name is near.
local function nearest_option(word)
  local names, flags = {}, {}
  for _, option in ipairs(require "fzlua.options".list) do
    for _, name in ipairs { option.long and option.long:sub(3) or option.run, option.run } do
      name = name:gsub("_", "-")
      if not flags[name] then names[#names + 1] = name end
      flags[name] = flags[name] or option.long or option.short
    end
  end
  return flags[nearest(word, names)]
end

local function misuse_unknown(argument)
  local word = argument:match "^%-%-([^=]+)"
  local near = word and nearest_option(word)
  messages.misuse("unrecognized option '%s' (%s)", argument,
    near and "the nearest option is " .. near or "fzlua -h lists the options")
end

-- A text such as "stop, now or continue".
local function alternatives(choices)
  return (table.concat(choices, ", "):gsub(", ([^,]*)$", " or %1"))
end

local function check_choice(option, value, flag)
  for _, choice in ipairs(option.choices) do
    if value == choice then return end
  end
  local near = nearest(value, option.choices)
  messages.misuse("%s must be %s, not %s%s", flag, alternatives(option.choices), value,
    near and (" (the nearest is %s)"):format(near) or "")
end

-- Check the value of an option that every invoke has. Returns the checked and converted value.
local function check_run(option, value, flag)
  if value == true then return true end
  local check = require "fzlua.check"
  local ok, checked = pcall(check.option, option.run, tonumber(value) or value, "fzlua")
  if not ok then messages.misuse("%s: %s", flag, (checked:gsub(" to 'fzlua'", ""))) end
  return checked
end

local function exclude(flag, other)
  messages.misuse("%s and %s cannot be used together", flag, other)
end

-- Apply an option. `value` is true for an option without a value.
local function apply(read, option, value, flag)
  if option.choices then check_choice(option, value, flag) end
  if option.run then read.run[option.run] = check_run(option, value, flag) end
  if option.set then read[option.set] = value end
  if option.implies then read[option.implies] = true end
  if option.step then read.steps[#read.steps + 1] = { option.step, value } end
  if option.group == "chain" then
    table.insert(read.of_chain, { flag, option.beside, value ~= true and option.argument })
  end
  if option.needs then read.needing[#read.needing + 1] = { flag, option.needs } end
  if option.module then
    if read.module then exclude(read.replacing, flag) end
    read.module, read.replacing = option.module, flag
  end
end

-- Split an argument such as --name=value or -j4 into the name of the option and the value.
local function split(argument)
  if argument:sub(1, 2) == "--" then
    local flag, value = argument:match "^(%-%-[^=]*)=(.*)$"
    return flag or argument, value
  end
  local short = #argument > 2 and find(argument:sub(1, 2))
  if short and short.argument then
    return argument:sub(1, 2), argument:sub(3)
  end
  return argument
end

-- Read the option args[i]. Returns the index of the next argument.
local function read_option(read, args, i)
  local flag, value = split(args[i])
  local option = find(flag)
  if not option or value and not option.argument then misuse_unknown(args[i]) end
  if option.argument and not value then
    value = option.default
    if not value then
      i = i + 1
      value = args[i] or messages.misuse("'%s' needs argument %s", flag, option.argument)
    end
  end
  apply(read, option, value or true, flag)
  return i + 1
end

-- Raise if an option needs another option that is missing, or if two options exclude each other.
local function check_others(read)
  for _, of_chain in ipairs(read.of_chain) do
    if read.module and read.module ~= of_chain[2] then exclude(read.replacing, of_chain[1]) end
  end
  if read.graph and read.only then exclude("--graph", "--only") end
  for _, need in ipairs(read.needing) do
    if read.module ~= need[2] then
      local names = {}
      for _, option in ipairs(require "fzlua.options".list) do
        if option.module == need[2] then names[#names + 1] = option.long end
      end
      messages.misuse("%s needs %s", need[1], alternatives(names))
    end
  end
end

---Read the options at the beginning of the arguments.
---@param args string[]
---@return fzlua.CommandLine
function command_line.read(args)
  local read = { run = {}, steps = {}, needing = {}, of_chain = {} }
  local i = 1
  while i <= #args and args[i]:find "^%-." and args[i] ~= "--" do i = read_option(read, args, i) end
  read.is_input = i > #args or args[i] == "-"
  if args[i] == "--" then i = i + 1 end
  read.first = i
  if i <= #args and (not read.module or read.interactive) then read.script = i end
  check_others(read)
  return read
end

---Make the command interactive, as -i does. Raises if an option was given that needs a script.
---@param read fzlua.CommandLine
function command_line.make_interactive(read)
  local of_chain = read.of_chain[1]
  if of_chain then
    local flag, _, argument = table.unpack(of_chain)
    messages.misuse("%s needs a script: fzlua %s%s pipeline.lua", flag, flag,
      argument and flag ~= "--graph" and " " .. argument or "")
  end
  apply(read, require "fzlua.lua_options".named["-i"], true, "-i")
end

return command_line
