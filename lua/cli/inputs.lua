--- inputs.lua - reads the inputs of a pipeline from the command line: NAME=VALUE and --input FILE.
--
-- Wrong use raises the message as a plain string.

local json = require "fzlua.json"
local nearest = require "fzlua.nearest"

local inputs = {}

local function fail(fmt, ...)
  error(fmt:format(...), 0)
end

-- The bytes of a file. `what` names the argument in error messages.
local function read_file(path, what)
  if path == "" then fail("%s: the name of a file is missing", what) end
  local file, message = io.open(path, "rb")
  if not file then fail("%s: %s", what, message) end
  local bytes, why = file:read "a"
  file:close()
  if not bytes then fail("%s: %s: %s", what, path, why) end
  return bytes
end

-- The value of a JSON text. `what` names the source of the text in error messages.
local function read_json(text, what)
  local ok, value = pcall(json.decode, text)
  if not ok then fail("%s: %s", what, value.message) end
  return value
end

local function read_object(path)
  local text = read_file(path, "--input")
  local value = read_json(text, path)
  if not text:find "^%s*{" then fail("%s: not a JSON object", path) end
  return value
end

-- The number that is written as `text`, or nil. A text such as 007, or the hash 123e4567, is not
-- read as a number, because the number would be printed as another text.
local function number_of(text)
  local number = tonumber(text)
  local is_finite = number and number - number == 0
  return is_finite and json.encode(number) == text and number or nil
end

local JSON_START = { ["{"] = true, ["["] = true, ['"'] = true }

local function read_value(name, text)
  if text:sub(1, 1) == "@" then return read_file(text:sub(2), "input " .. name) end
  if text == "true" or text == "false" then return text == "true" end
  if JSON_START[text:sub(1, 1)] then
    local ok, value = pcall(json.decode, text)
    if ok then return value end
  end
  return number_of(text) or text
end

-- Read an argument NAME=VALUE or NAME:=JSON. Returns the name and the value.
local function read_argument(argument)
  if argument:sub(1, 1) == "-" then fail("%s: options come before the script", argument) end
  local name, colon, text = argument:match "^([^=]-)(:?)=(.*)$"
  if not name or name == "" then fail("%s: an input has the form NAME=VALUE", argument) end
  if colon == "" then return name, read_value(name, text) end
  local value = read_json(text, "input " .. name)
  if value == nil then fail("input %s: null is not a valid value", name) end
  return name, value
end

---Read the inputs on the command line. The arguments take precedence over the file.
---@param file? string the file after --input
---@param arguments string[]
---@return table<string, any>
function inputs.read(file, arguments)
  local given = file and read_object(file) or {}
  for _, argument in ipairs(arguments) do
    local name, value = read_argument(argument)
    given[name] = value
  end
  return setmetatable(given, nil) -- remove the class of an empty JSON object
end

---Whether any argument has the form of an input.
---@param arguments string[]
---@return boolean
function inputs.are_in(arguments)
  for _, argument in ipairs(arguments) do
    if argument:find "^[%a_][%w_]*:?=" then return true end
  end
  return false
end

---A list with a message for each missing input.
---@param plan fzlua.Plan
---@param values table the inputs that are set
---@return string[]
function inputs.missing(plan, values)
  local messages = {}
  for i, need in ipairs(plan:missing(values)) do
    messages[i] = ("missing input %s (read for %s%s)"):format(need.name,
      need.stage and need.stage .. "." or "", need.output)
  end
  return messages
end

---A message for each name that is neither an output nor an input that passes through.
---@param plan fzlua.Plan of all outputs
---@param names string[]
---@param values table the inputs that are set
---@return string[]
function inputs.unknown_outputs(plan, names, values)
  local known, messages = {}, {}
  for i, name in ipairs(plan:passed(values)) do known[i] = name end
  for _, final in ipairs(plan.final) do known[#known + 1] = final.name end
  for _, name in ipairs(names) do
    if not plan:makes(name) and not (plan:passes_on(name) and values[name] ~= nil) then
      local near = nearest(name, known)
      messages[#messages + 1] = ("--only: the chain has no output %s%s"):format(name,
        near and (" (the nearest is %s)"):format(near) or "")
    end
  end
  return messages
end

-- The names of the inputs that functions of the plan read, as a list and as a set.
local function read_names(plan)
  local list, set = {}, {}
  for _, need in ipairs(plan.needs) do
    if type(need.name) == "string" and not set[need.name] then
      list[#list + 1], set[need.name] = need.name, true
    end
  end
  return list, set
end

---Messages about inputs in `given` that no function of the plan reads.
---@param plan fzlua.Plan
---@param given table<string, any>
---@return string[] errors for the inputs that do not pass through
---@return string[] warnings for the inputs that pass through
function inputs.unread(plan, given)
  local errors, warnings = {}, {}
  local names, is_read = read_names(plan)
  local passes, unread = {}, {}
  for _, name in ipairs(plan:passed(given)) do passes[name] = true end
  for name in pairs(given) do
    if not is_read[name] then unread[#unread + 1] = name end
  end
  table.sort(unread)
  for _, name in ipairs(unread) do
    local near = nearest(name, names)
    local hint = near and (" (the nearest name is %s)"):format(near) or ""
    if passes[name] then
      warnings[#warnings + 1] = ("no function reads input %s%s"):format(name, hint)
    else
      errors[#errors + 1] =
        ("no function reads input %s, and it does not pass through%s"):format(name, hint)
    end
  end
  return errors, warnings
end

return inputs
