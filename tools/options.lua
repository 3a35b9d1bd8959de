-- options.lua - makes completions and a part of the man page from the options of the command in
-- lua/cli/options.lua.
--
--   fzlua tools/options.lua bash|zsh     prints a script that completes the command line
--   fzlua tools/options.lua man FILE     writes the descriptions of the options into the man page
--   fzlua tools/options.lua check FILE   fails unless the man page has them

package.path = arg[0]:match "^(.-)[^/]*$" .. "?.lua;" .. package.path
local help = require "fzlua.help"
local options = require "fzlua.options"
local written = require "written"

-- The names of an option.
local function names(option)
  local list = { option.short }
  list[#list + 1] = option.long
  return list
end

local BASH <const> = [==[
# Completion of fzlua for bash, made from lua/cli/options.lua.

# Print the index of the script in the command line before the cursor, or nothing.
_fzlua_script() {
	local i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--) ((++i < COMP_CWORD)) && echo $i && return ;;
		VALUED) [[ ${COMP_WORDS[i + 1]} == = ]] || ((i++)) ;;
		=) ((i++)) ;;
		-?*) ;;
		*) echo $i && return ;;
		esac
	done
}

_fzlua() {
	local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=
	# bash splits words at "=".
	if [[ $cur == = ]]; then
		cur= before=$before=
	elif [[ $before == = ]]; then
		before=${COMP_WORDS[COMP_CWORD - 2]}=
	fi
	COMPREPLY=()
	[[ -n $(_fzlua_script) ]] && return # its arguments: names of files
	case $before in
CASES	*)
		if [[ $cur == -* ]]; then
			words='OPTIONS'
		else
			compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -f -X '!*.lua' -- "$cur"
				compgen -d -- "$cur")
			return
		fi
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -o default -F _fzlua fzlua
]==]

-- The branch of `case` for the value of an option.
local function bash_case(option)
  local patterns = {}
  for _, name in ipairs(names(option)) do
    if not option.default then patterns[#patterns + 1] = name end
    if name == option.long then patterns[#patterns + 1] = name .. "=" end
  end
  local action = option.choices and ("words='%s'"):format(table.concat(option.choices, " "))
    or option.files and "return" or "compopt +o default 2>/dev/null"
  return ("\t%s) %s ;;\n"):format(table.concat(patterns, " | "), action)
end

local function bash()
  local all, valued, cases = {}, {}, {}
  for _, option in ipairs(options.list) do
    for _, name in ipairs(names(option)) do
      all[#all + 1] = name
      if option.argument and not option.default then valued[#valued + 1] = name end
    end
    if option.argument then cases[#cases + 1] = bash_case(option) end
  end
  local parts = {
    VALUED = table.concat(valued, " | "), CASES = table.concat(cases),
    OPTIONS = table.concat(all, " "),
  }
  return (BASH:gsub("%u%u%u%u%u+", parts))
end

local ZSH <const> = [==[
#compdef fzlua
# Completion of fzlua for zsh, made from lua/cli/options.lua.

_arguments -S \
%s
  '1:script:_files -g "*.lua"' \
  '*::argument:_files'
]==]

-- The description of the value of an option for zsh.
local function zsh_value(option)
  if not option.argument then return "" end
  local action = option.files and "_files"
    or option.choices and ("(%s)"):format(table.concat(option.choices, " ")) or " "
  return ("%s:%s:%s"):format(option.default and ":" or "",
    option.argument:gsub("[%[%]:]", "\\%0"), action)
end

-- The arguments of _arguments for the names of an option.
local function zsh_specs(option)
  local specs, list = {}, names(option)
  local repeats = option.step and "*" or ("(%s)"):format(table.concat(list, " "))
  for i, name in ipairs(list) do
    local mark = not option.argument and "" or option.default and "=-"
      or name:find "^%-%-" and "=" or "+"
    specs[i] = ("  '%s%s%s[%s]%s' \\"):format(repeats, name, mark,
      option.help:gsub("[%[%]:]", "\\%0"), zsh_value(option))
  end
  return table.concat(specs, "\n")
end

local function zsh()
  local specs = {}
  for i, option in ipairs(options.list) do specs[i] = zsh_specs(option) end
  return ZSH:format(table.concat(specs, "\n"))
end

-- A text for mdoc, with words in backquotes in bold, wrapped.
local function mdoc_text(text)
  text = text:gsub("\\", "\\e"):gsub("`(.-)`", "\\fB%1\\fP"):gsub("%f[%S]%-", "\\-")
  local lines, line = {}, ""
  for word in text:gmatch "%S+" do
    if line ~= "" and #line + 1 + #word > 80 then
      lines[#lines + 1], line = line, ""
    end
    line = line == "" and word:gsub("^[.']", "\\&%0") or line .. " " .. word
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

-- The heading of an option in mdoc.
local function mdoc_item(option)
  local list = names(option)
  for i, name in ipairs(list) do list[i] = "Fl " .. name:sub(2) end
  local item = ".It " .. table.concat(list, " , ")
  if option.default then return ("%s Ns Oo = Ns Ar %s Oc"):format(item, option.argument) end
  return option.argument and ("%s Ar %s"):format(item, option.argument) or item
end

local function sentence(text)
  return text:sub(1, 1):upper() .. text:sub(2) .. "."
end

local LUA_ITEMS <const> = [[
.It Fl
Run standard input as the script.
.It Fl -
End of the options.
]]

local function man()
  local parts = {}
  for _, group in ipairs(help.groups) do
    local members = help.members(group.name)
    if #members > 0 then
      parts[#parts + 1] = (".Ss %s\n.Bl -tag -width Ds\n"):format(group.heading)
      for _, option in ipairs(members) do
        local text = mdoc_text(option.more or sentence(option.help))
        parts[#parts + 1] = ("%s\n%s\n"):format(mdoc_item(option), text)
      end
      if group.name == "lua" then parts[#parts + 1] = LUA_ITEMS end
      parts[#parts + 1] = ".El\n"
    end
  end
  return table.concat(parts)
end

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

-- The man page with the descriptions of the table.
local function man_page(path)
  local before, after =
    read(path):match '^(.-\n%.\\" Made from lua/cli/options.lua[^\n]*\n).-(%.Sh.*)$'
  return before .. man() .. after
end

local ACTIONS = {
  bash = function() io.write(bash()) end,
  zsh = function() io.write(zsh()) end,
  man = function(path) written(path, man_page(path), "lua/cli/options.lua", false) end,
  check = function(path) written(path, man_page(path), "lua/cli/options.lua", true) end,
}
ACTIONS[arg[1]](arg[2])
