--- complete.lua - the completions that Tab offers at the cursor.
--
-- No code of the user runs: values are read by raw access, and through __index tables. An __index
-- function of a class of fzlua is not called, because its upvalues are the tables of the members.

local complete = {}

local KEYWORDS <const> = [[and break do else elseif end false for function goto if in local nil not
  or repeat return then true until while]]

local host, commands -- C functions of the command; names of the commands of the prompt

---@param functions table of cli/main.c
---@param names string[] of :commands
function complete.set_up(functions, names)
  host, commands = functions, names
end

-- The tables that the __index function of a class reads. They are upvalues of the function.
local function tables_behind(index)
  local info, list = debug.getinfo(index, "Su"), {}
  if info.what ~= "C" and info.source:sub(1, 7) ~= "@fzlua/" then return list end
  for i = 1, info.nups do
    local name, up = debug.getupvalue(index, i)
    if type(up) == "table" and name ~= "_ENV" then list[#list + 1] = up end
  end
  return list
end

-- Call visit(table) for each table that may contain a member of the value.
local function each_table(value, visit, depth)
  if type(value) == "table" then visit(value) end
  local mt = debug.getmetatable(value)
  local index = type(mt) == "table" and rawget(mt, "__index")
  if depth > 8 or not index then return end
  if type(index) == "table" then return each_table(index, visit, depth + 1) end
  if type(index) ~= "function" then return end
  for _, members in ipairs(tables_behind(index)) do each_table(members, visit, depth + 1) end
end

local function is_fz(value)
  return value == package.loaded["fzlua"]
end

-- Whether to index the value is safe, because this runs only code of fzlua that changes nothing.
local function is_own(value)
  local mt = debug.getmetatable(value)
  local name = type(value) == "table" and type(mt) == "table" and rawget(mt, "__name")
  return is_fz(value) or name == "fzlua.Chain" or name == "fzlua.Stage" or name == "fzlua.Dag"
end

local function field_of(value, key)
  if is_own(value) then
    local ok, field = pcall(function() return value[key] end)
    return ok and field or nil
  end
  local found
  each_table(value, function(t) if found == nil then found = rawget(t, key) end end, 0)
  return found
end

-- The value of a path such as "chain.output"; nil if there is none.
local function value_of(path)
  local value = _G
  for name in path:gmatch "[%a_][%w_]*" do
    value = field_of(value, name)
    if value == nil then return nil end
  end
  return value
end

local function starts_with(text, prefix)
  return text:sub(1, #prefix) == prefix
end

-- The sorted names of a set that begin with `part`.
local function chosen(set, part)
  local list = {}
  for name in pairs(set) do
    if starts_with(name, part) then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

local function is_shown(name, part)
  return type(name) == "string" and name:find "^[%a_][%w_]*$" ~= nil
    and (name:sub(1, 1) ~= "_" or part:sub(1, 1) == "_")
end

-- The name of a class of fzlua without the prefix "fzlua.", or nil for other classes.
local function class_of(value)
  local mt = debug.getmetatable(value)
  local name = type(mt) == "table" and rawget(mt, "__name")
  return type(name) == "string" and name:match "^fzlua%.(.*)$" or nil
end

-- Whether the member can be called with a colon. A class of fzlua also has functions that compute
-- fields, and internal functions. The module `fz` has no methods.
local function is_method(value, name, field)
  if type(field) ~= "function" or is_fz(value) then return false end
  return not class_of(value) or require "fzlua.manual".has_method(name)
end

local function member_names(value, part, only_methods)
  local set = {}
  each_table(value, function(t)
    for name, field in next, t do
      if is_shown(name, part) and (not only_methods or is_method(value, name, field)) then
        set[name] = true
      end
    end
  end, 0)
  return chosen(set, part)
end

local function global_names(part)
  local set = {}
  for _, name in ipairs(member_names(_G, part)) do set[name] = true end
  for word in KEYWORDS:gmatch "%a+" do set[word] = true end
  return chosen(set, part)
end

-- The names in a directory that begin with `part`; hidden names only if `part` begins with ".".
local function file_names(part)
  local directory, rest = part:match "^(.*/)([^/]*)$"
  directory, rest = directory or "", rest or part
  local set = {}
  local path = directory:gsub("^~/", (os.getenv "HOME" or "~") .. "/")
  for _, name in ipairs(host.list_files(path == "" and "." or path) or {}) do
    if name:sub(1, 1) ~= "." or rest:sub(1, 1) == "." and not name:find "^%.%.?/$" then
      set[directory .. name] = true
    end
  end
  return chosen(set, part)
end

-- Add the modules that one template of a search path, such as "./?.lua", may find.
local function add_modules(set, template, directory)
  local before, after = template:match "^([^?]*)%?([^?]*)$"
  if not before then return end
  for _, name in ipairs(host.list_files(before .. directory) or {}) do
    local module = name:sub(-#after) == after and name:sub(1, -#after - 1)
    if module and module ~= "" then set[(directory .. module):gsub("/", ".")] = true end
    if name:find "^[%w_-]+/$" then set[(directory .. name):gsub("/", ".")] = true end
  end
end

local function module_names(part)
  local set, directory = {}, (part:match "^(.*)%.[^.]*$" or ""):gsub("%.", "/")
  if directory ~= "" then directory = directory .. "/" end
  for _, loaded in ipairs { package.loaded, package.preload } do
    for name in pairs(loaded) do
      if type(name) == "string" and not name:find "^fzlua%." then set[name] = true end
    end
  end
  for template in (package.path .. ";" .. package.cpath):gmatch "[^;]+" do
    add_modules(set, template, directory)
  end
  return chosen(set, part)
end

-- The index of the opening quote of a string that is not closed at the end of `text`, or nil.
local function open_string(text)
  local at = 1
  while true do
    local from, _, quote = text:find("([\"'])", at)
    local comment = text:find("--", at, true)
    if not from or comment and comment < from then return nil end
    local _, to = text:find("^[^" .. quote .. "\\\n]*", from + 1)
    while text:sub(to + 1, to + 1) == "\\" do
      _, to = text:find("^[^" .. quote .. "\\\n]*", to + 3)
    end
    if text:sub(to + 1, to + 1) ~= quote then return to == #text and from or nil end
    at = to + 2
  end
end

local function in_string(before)
  local quote = open_string(before:match "[^\n]*$")
  if not quote then return nil end
  local line = before:match "[^\n]*$"
  local part = line:sub(quote + 1)
  if line:sub(1, quote - 1):find "require%s*%(?%s*$" then return part, module_names(part) end
  return part, file_names(part)
end

local function in_command(before)
  local part = before:match "^%s*:(%a*)$"
  local set = {}
  if part then
    for _, name in ipairs(commands) do set[name] = true end
    return part, chosen(set, part)
  end
  part = before:match "^%s*:load%s+(.*)$" or before:match "^%s*:save%s+(.*)$"
  if part then return part, file_names(part) end
end

local function in_path(before)
  local path, separator, part = before:match "([%a_][%w_.]*)([.:])([%w_]*)$"
  if path then
    local from = #before - #path - #separator - #part
    if before:sub(from, from):find "[%w_.:]" then return part, {} end
    local value = value_of(path)
    if value == nil then return part, {} end
    return part, member_names(value, part, separator == ":"), path, value
  end
  part = before:match "[\"']%)?:([%w_]*)$"
  if part then return part, member_names("", part, true), "string", string end
  part = before:match "[%a_][%w_]*$" or ""
  local from = #before - #part
  if before:sub(from, from):find "[%w_.:]" then return part, {} end
  return part, global_names(part), nil, _G
end

---The names that may complete the end of `before`.
---@param before string the text before the cursor
---@return string part the end of `before` with which all names begin
---@return string[] names
---@return string|nil path the expression whose members they are
---@return any value of the expression `path`
function complete.find(before)
  local part, names = in_command(before)
  if not part then part, names = in_string(before) end
  if part then return part, names end
  return in_path(before)
end

---The longest prefix of all names.
---@param names string[]
---@return string
function complete.common(names)
  local prefix = names[1] or ""
  for _, name in ipairs(names) do
    while not starts_with(name, prefix) do prefix = prefix:sub(1, -2) end
  end
  if not utf8.len(prefix) then prefix = prefix:gsub("[\xc0-\xff][\x80-\xbf]*$", "") end
  return prefix
end

-- The parameters of a Lua function, in a text such as "f(a, b)".
local function parameters(name, f)
  local info = debug.getinfo(f, "Su")
  if info.what == "C" or info.source:sub(1, 7) == "@fzlua/" then return nil end
  local list = {}
  for i = 1, info.nparams do list[i] = debug.getlocal(f, i) end
  if info.isvararg then list[#list + 1] = "..." end
  return ("%s(%s)"):format(name, table.concat(list, ", "))
end

---The signature of the member `name` of a value.
---@param value any
---@param path string|nil the expression of the value
---@param name string
---@return string|nil signature
function complete.signature(value, path, name)
  local f = field_of(value, name)
  local class = class_of(value)
  local manual = require "fzlua.manual"
  local own = is_fz(value) and "fz." .. name or class and class:lower() .. ":" .. name
  local found = own and manual.signature(own)
  if found or type(f) ~= "function" then return found end
  return parameters((path and path .. "." or "") .. name, f)
end

return complete
