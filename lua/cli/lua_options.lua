--- lua_options.lua - the options that lua5.4 has, too; options.lua adds them to its table.
--
-- If only these options are used, the command does not load options.lua, so that it starts as fast
-- as lua5.4.

local lua_options = {}

---The options, in the order of the help.
---@type fzlua.Option[]
lua_options.list = {
  { short = "-e", argument = "STAT", group = "lua", step = "-e", help = "run the string STAT" },
  { short = "-l", argument = "[G=]MOD", group = "lua", step = "-l",
    help = "require MOD into the global MOD, or G" },
  { short = "-i", group = "lua", set = "interactive", implies = "version", module = "fzlua.repl",
    help = "read and run lines after the script",
    more = "Read and run lines after the script. A chain that the script returns is the value of \z
      `_`. It is run before the prompt appears if the command line has inputs, `--input` or \z
      `--only`." },
  { short = "-W", group = "lua", step = "-W", help = "turn warnings on" },
  { short = "-E", group = "lua", set = "no_environment",
    help = "ignore the environment variables LUA_*" },
  { short = "-v", long = "--version", group = "lua", set = "version",
    help = "print the version" },
}

---Options by their names.
---@param list fzlua.Option[]
---@return table<string, fzlua.Option>
function lua_options.by_name(list)
  local named = {}
  for _, option in ipairs(list) do
    if option.short then named[option.short] = option end
    if option.long then named[option.long] = option end
  end
  return named
end

lua_options.named = lua_options.by_name(lua_options.list)

return lua_options
