--- help.lua - the texts of -h and --help.

local options = require "fzlua.options"

local help = {}

local USAGE <const> = [==[
usage: fzlua [options] [script [args]]
       fzlua [options] --each CODE | --fold CODE [FILE...]
]==]

local SHORT_USAGE <const> =
  "usage: fzlua [options] [script [args]]  or  --each CODE | --fold CODE [FILE...]\n"

---The groups in their order, each with its heading. -h does not show the group if `line` is false.
---If it is a text, -h shows only the names of the options, in one line that ends in this text.
help.groups = {
  { name = "run", heading = "How functions run" },
  { name = "chain", heading = "If the script returns a chain" },
  { name = "records", heading = "Lines of files or of standard input instead of a script" },
  { name = "cache", heading = "Results of earlier runs", line = "" },
  { name = "did", heading = "What a run did", line = "see --help" },
  { name = "nodes", heading = "Other machines", line = "see --help" },
  { name = "node", heading = "This machine for others, as a node", line = "see --help" },
  { name = "lua", heading = "As in lua5.4", line = "-  --  -h  --help" },
  { name = "help", heading = "Help", line = false },
}

local INPUTS <const> = [[
A chain or dag that the script returns is run; args are its inputs: NAME=VALUE, where VALUE is
a number, true, false, a JSON object, array or string, and otherwise a string; NAME:=JSON is
always JSON; NAME=@FILE is the bytes of a file.
]]

local EXAMPLES <const> = [[
Examples:
  fzlua pipeline.lua A=1 B=2               run the chain that the script returns
  fzlua --json -j4 pipeline.lua A:='[1]'   four functions at once, the outputs as JSON
  fzlua --graph=dot pipeline.lua           draw it
  fzlua -j0 pipeline.lua A=1               debug it in one process
  fzlua --check pipeline.lua               find mistakes before it runs
  fzlua --each 'line:upper()' FILE         print each line in capitals
  fzlua --fold 'acc.n = acc.n + 1' FILE    count the lines
  fzlua -e 'print(fz.cpu_count())'         run a piece of Lua

Exit status: 0; 1 after an error, 2 after wrong use, 130 after Ctrl-C. More: man fzlua
]]

---The name of an option with its value, as in "-v, --version" or "--input FILE".
---@param option fzlua.Option
---@return string
function help.name(option)
  local name = option.short or option.long
  if option.short and option.long then name = option.short .. ", " .. option.long end
  if option.default then return ("%s[=%s]"):format(name, option.argument) end
  return option.argument and name .. " " .. option.argument or name
end

---The options of a group.
---@param group string
---@return fzlua.Option[]
function help.members(group)
  local list = {}
  for _, option in ipairs(options.list) do
    if option.group == group then list[#list + 1] = option end
  end
  return list
end

-- A line of the summary. The name of the group has 9 columns, and the name of the option has 17.
local function row(label, name, text)
  return ("%-9s%-17s%s\n"):format(label, name, text)
end

-- A line with the names of all options of a group.
local function names_line(label, list, last)
  local names = {}
  for i, option in ipairs(list) do names[i] = help.name(option) end
  if last ~= "" then names[#names + 1] = last end
  return ("%-9s%s\n"):format(label, table.concat(names, "  "))
end

---The text of -h, which fits on one screen.
---@return string
function help.summary()
  local lines = { SHORT_USAGE }
  for _, group in ipairs(help.groups) do
    local label, list = group.name, help.members(group.name)
    if group.line then
      lines[#lines + 1] = names_line(label, list, group.line)
    elseif group.line == nil then
      for i, option in ipairs(list) do
        lines[#lines + 1] = row(i == 1 and label or "", help.name(option), option.help)
      end
    end
  end
  return table.concat(lines)
end

local function listed(name, text)
  return ("  %-21s%s\n"):format(name, text)
end

-- The rows for `-` and `--`, because the table of options does not contain them.
local LUA_ROWS <const> = listed( "-", "run standard input as the script")
  .. listed( "--", "end of the options")

---The text of --help.
---@return string
function help.all()
  local lines = { USAGE, "\n", INPUTS }
  for _, group in ipairs(help.groups) do
    local list = help.members(group.name)
    if #list > 0 then lines[#lines + 1] = ("\n%s:\n"):format(group.heading) end
    for _, option in ipairs(list) do
      lines[#lines + 1] = listed( help.name(option), option.help)
    end
    if group.name == "lua" then lines[#lines + 1] = LUA_ROWS end
  end
  lines[#lines + 1] = "\n" .. EXAMPLES
  return table.concat(lines)
end

return help
