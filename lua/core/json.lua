--- json.lua - Lua values as JSON text and back.
--
-- null is nil, and a list that contains null has its length in `n`. Integers stay integers, and
-- floats stay floats. An object that looks like a list, such as {}, has the class fzlua.Object.

local Error = require "fzlua.error"
local core = require "fzlua.core"

local byte, find, match, sub = string.byte, string.find, string.match, string.sub
local concat, math_type = table.concat, math.type

local json = {}

-- Maximum depth of nested lists and objects.
local DEPTH_MAX <const> = 2048

-- Class of objects that look like lists. dkjson and rapidjson read its field `__jsontype`.
local Object = core.classes()["fzlua.Object"]

-- A list may have gaps. Up to this length, any number of its elements may be missing. In a longer
-- list at most half of the elements may be missing, so that a table with one large key is not
-- written as a million nulls.
local HOLES_MAX <const> = 1000

-- The length of a table that is a list, or nil for any other table. All keys of a list are positive
-- integers, except `n`, which is the length if the list ends in nil.
local function list_length(t)
  local count, most, n = 0, 0, 0
  for key, value in next, t do
    if key == most + 1 or math_type(key) == "integer" and key >= 1 then
      count = count + 1
      if key > most then most = key end
    elseif key == "n" and math_type(value) == "integer" and value >= 0 then
      n = value
    else
      return nil
    end
  end
  if n > 0 then
    if n < most or count == 0 then return nil end
    most = n
  end
  return (most // 2 <= count or most <= HOLES_MAX) and most or nil
end

-- Raise an error at the position `at` of the text. The text before `at` must be valid UTF-8.
local function fail(text, at, why)
  local line, start = 1, 1
  for next_start in sub(text, 1, at - 1):gmatch "\n()" do line, start = line + 1, next_start end
  local column = utf8.len(text, start, at - 1) + 1
  Error.raise("error", "not JSON: line %d, column %d: %s", line, column, why)
end

-- Raise an error, because the text at the position `at` is not `what`.
local function fail_expected(text, at, what)
  local word = match(text, "^[%w_]+", at) or match(text, "^%g", at)
  local found = at > #text and "the end of the text"
    or word and ("'%s'"):format(sub(word, 1, 20))
    or ("U+%04X"):format(utf8.codepoint(text, at))
  fail(text, at, ("%s is expected here, not %s"):format(what, found))
end

local QUOTE <const>, BACKSLASH <const>, COMMA <const>, COLON <const> = 0x22, 0x5c, 0x2c, 0x3a
local OPEN_LIST <const>, CLOSE_LIST <const> = 0x5b, 0x5d
local OPEN_OBJECT <const>, CLOSE_OBJECT <const> = 0x7b, 0x7d
local SPACES = { [0x20] = true, [0x0a] = true, [0x0d] = true, [0x09] = true }

-- Skip white space. Returns the position and the code of the next byte, which is nil at the end.
local function skip(text, at)
  local code = byte(text, at)
  if not SPACES[code] then return at, code end
  at = find(text, "[^ \n\r\t]", at) or #text + 1
  return at, byte(text, at)
end

-- First byte of a value -> function that reads the value at a position. The function returns the
-- value and the position after the value.
local READ = setmetatable({}, {
  __index = function()
    return function(text, at) fail_expected(text, at, "a value") end
  end,
})

local UNESCAPED = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r",
  t = "\t" }

-- Read an escape, whose backslash is at `at`. Returns the character and the next position.
local function read_escape(text, at)
  local char = UNESCAPED[sub(text, at + 1, at + 1)]
  if char then return char, at + 2 end
  local digits = match(text, "^u(%x%x%x%x)", at + 1)
  if not digits then fail(text, at, [[an unknown escape; write \\ for a backslash]]) end
  local code = tonumber(digits, 16)
  if code < 0xd800 or code > 0xdfff then return utf8.char(code), at + 6 end
  local low = code < 0xdc00 and match(text, "^\\u([Dd][C-Fc-f]%x%x)", at + 6)
  if not low then fail(text, at, ("\\u%s is half of a surrogate pair"):format(digits)) end
  return utf8.char(0x10000 + (code - 0xd800) * 0x400 + tonumber(low, 16) - 0xdc00), at + 12
end

-- Read the string at `at`. The string contains escapes, or is malformed.
local function read_escaped(text, at)
  local parts, start = {}, at + 1
  while true do
    local stop = find(text, '["\\\0-\31]', start)
    if not stop then fail(text, at, "a string without its closing quote") end
    local code = byte(text, stop)
    parts[#parts + 1] = sub(text, start, stop - 1)
    if code == QUOTE then return concat(parts), stop + 1 end
    if code ~= BACKSLASH then
      fail(text, stop, "a control character in a string; write it as an escape")
    end
    parts[#parts + 1], start = read_escape(text, stop)
  end
end

READ[QUOTE] = function(text, at)
  local s, after = match(text, '^"([^"\\\0-\31]*)"()', at)
  if s then return s, after end
  return read_escaped(text, at)
end

-- Read a number that is malformed or not a short integer.
local function read_number(text, at)
  local digits, after = match(text, "^([%d.eE+-]+)()", at)
  local number = tonumber(digits)
  local is_float = find(digits, "^-?%d+%.%d") or find(digits, "^-?%d+[eE]")
  if not number or find(digits, "^-?0%d") or not (is_float or find(digits, "^-?%d+$")) then
    fail(text, at, "a malformed number")
  end
  if not is_float and math_type(number) == "float" then
    fail(text, at, "an integer of more than 64 bits; write a float, such as 1e20")
  end
  if number - number ~= 0 then fail(text, at, "a number that is too large for a float") end
  return number, after
end

local DIGITS_SAFE <const> = 18 -- an integer with a sign and this many characters fits in 64 bits

local function read_integer(text, at)
  local digits, more = match(text, "^(-?[1-9]%d*)([.eE]?)", at)
  if more == "" and #digits <= DIGITS_SAFE then return tonumber(digits), at + #digits end
  return read_number(text, at)
end

for code = byte "0", byte "9" do READ[code] = read_integer end
READ[byte "-"] = read_integer

-- A function that reads a word (true, false or null).
local function word_reader(word, value)
  return function(text, at)
    if match(text, "^[%w_]+", at) ~= word then fail_expected(text, at, "a value") end
    return value, at + #word
  end
end

READ[byte "t"] = word_reader("true", true)
READ[byte "f"] = word_reader("false", false)
READ[byte "n"] = word_reader("null", nil)

local function deeper(text, at, depth)
  if depth < DEPTH_MAX then return depth + 1 end
  fail(text, at, ("nested deeper than %d levels"):format(DEPTH_MAX))
end

READ[OPEN_LIST] = function(text, at, depth)
  local list, n, has_null = {}, 0, false
  depth = deeper(text, at, depth)
  local code
  at, code = skip(text, at + 1)
  if code == CLOSE_LIST then return list, at + 1 end
  while true do
    local value
    n = n + 1
    value, at = READ[code](text, at, depth)
    list[n] = value
    has_null = has_null or value == nil
    code = byte(text, at)
    if SPACES[code] then at, code = skip(text, at) end
    if code ~= COMMA then break end
    at = at + 1
    code = byte(text, at)
    if SPACES[code] then at, code = skip(text, at) end
  end
  if code ~= CLOSE_LIST then fail_expected(text, at, "',' or ']'") end
  if has_null then list.n = n end
  return list, at + 1
end

-- Read the name of a member, `"name":`, at `at`. Returns the name and the position after the colon.
local function read_name(text, at)
  local name, after = match(text, '^[ \n\r\t]*"([^"\\\0-\31]*)"[ \n\r\t]*:()', at)
  if name then return name, after end
  local code
  at, code = skip(text, at)
  if code ~= QUOTE then fail_expected(text, at, "a name in double quotes") end
  name, at = read_escaped(text, at)
  at, code = skip(text, at)
  if code ~= COLON then fail_expected(text, at, "':'") end
  return name, at + 1
end

READ[OPEN_OBJECT] = function(text, at, depth)
  local object = {}
  depth = deeper(text, at, depth)
  at = at + 1
  local start, code = skip(text, at)
  if code == CLOSE_OBJECT then return setmetatable(object, Object), start + 1 end
  repeat
    local name
    name, at = read_name(text, at)
    code = byte(text, at)
    if SPACES[code] then at, code = skip(text, at) end
    object[name], at = READ[code](text, at, depth)
    code = byte(text, at)
    if SPACES[code] then at, code = skip(text, at) end
    at = at + 1
  until code ~= COMMA
  if code ~= CLOSE_OBJECT then fail_expected(text, at - 1, "',' or '}'") end
  return list_length(object) and setmetatable(object, Object) or object, at
end

---The value of a JSON text. The fz.Error names the line and the column, in characters.
---@param text string
---@return any
function json.decode(text)
  local _, wrong = utf8.len(text)
  if wrong then fail(text, wrong, "a byte that is not UTF-8") end
  local at, code = skip(text, 1)
  local value
  value, at = READ[code](text, at, 0)
  at = skip(text, at)
  if at <= #text then fail_expected(text, at, "the end of the text") end
  return value
end

local REFUSED_MAX <const> = 20 -- maximum number of messages about values without a JSON form
local PATH_MAX <const> = 20   -- maximum number of keys in the path that a message shows

-- The path to a value as ".rows[2]": the keys of the tables that contain it, and its own key.
local function path_of(writer, key)
  local parts, keys = {}, writer.keys
  keys[writer.depth + 1] = key
  for i = 1, math.min(writer.depth + 1, PATH_MAX) do
    local k = keys[i]
    parts[i] = math_type(k) and ("[%d]"):format(k) or k and "." .. k or ""
  end
  return concat(parts) .. (writer.depth >= PATH_MAX and "..." or "")
end

-- Handle a value without a JSON form. Without a list `refused` of the caller, raises an error. With
-- a list, adds a message to it, and returns the text to write instead of the value.
local function refuse(writer, key, why)
  local refused = writer.refused
  if not refused then
    local path = path_of(writer, key)
    Error.raise("error", "JSON%s%s: %s", path ~= "" and " " or "", path, why)
  end
  writer.nrefused = writer.nrefused + 1
  if writer.nrefused <= REFUSED_MAX then
    refused[#refused + 1] = path_of(writer, key) .. ": " .. why
  end
  return "null"
end

-- Type of a value -> function that returns its text, or an integer itself. The arguments are the
-- writer, the value, and its key in the table that contains it.
local TEXT = setmetatable({}, {
  __index = function(_, kind)
    return function(writer, _, key)
      return refuse(writer, key, ("a %s has no JSON form"):format(kind))
    end
  end,
})

TEXT["nil"] = function() return "null" end
TEXT.boolean = function(_, value) return value and "true" or "false" end

local NORMAL_MIN <const> = 0x1p-1022 -- smaller floats have less than 15 digits of precision
local FORMATS = {}
for digits = 1, 17 do FORMATS[digits] = ("%%.%dg"):format(digits) end

-- The shortest text that reads back as the float `x`, with a point or an exponent.
local function float_text(x)
  local digits = x < NORMAL_MIN and x > -NORMAL_MIN and 1 or 15
  local text = FORMATS[digits]:format(x)
  while digits < 17 and tonumber(text) ~= x do
    digits = digits + 1
    text = FORMATS[digits]:format(x)
  end
  if find(text, "^-?%d+[.e]") then return text end
  text = text:gsub("[^%de+-]+", ".") -- another locale may have another decimal point
  return find(text, "[.e]") and text or text .. ".0"
end

TEXT.number = function(writer, x, key)
  if math_type(x) == "integer" then return x end
  if x ~= x then return refuse(writer, key, "NaN has no JSON form") end
  if x - x ~= 0 then return refuse(writer, key, "infinity has no JSON form") end
  return float_text(x)
end

local ESCAPED = setmetatable({ ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t" }, {
  __index = function(_, char) return ("\\u%04x"):format(byte(char)) end,
})

-- A string in quotes, or nil if the string is not valid UTF-8.
local function quoted(s)
  if find(s, "^[%]-~#-%[ !]*$") then return '"' .. s .. '"' end
  if not utf8.len(s) then return nil end
  return '"' .. s:gsub('["\\\0-\31\127]', ESCAPED) .. '"'
end

TEXT.string = function(writer, s, key)
  return quoted(s) or refuse(writer, key, "a string that is not UTF-8 has no JSON form")
end

local function list_text(writer, list, n)
  local parts = {}
  for i = 1, n do
    local value = list[i]
    parts[i] = math_type(value) == "integer" and value or TEXT[type(value)](writer, value, i)
  end
  return "[" .. concat(parts, ",") .. "]"
end

-- A cache of the texts of names, because most documents repeat their names.
local name_texts, nname_texts = {}, 0
local NAMES_MAX <const>, NAME_LEN_MAX <const> = 1000, 100

local function keep_name(name, text)
  if nname_texts == NAMES_MAX then name_texts, nname_texts = {}, 0 end
  name_texts[name], nname_texts = text, nname_texts + 1
end

-- The text `"name":`, or nil if the name is not valid UTF-8.
local function name_text(name)
  local text = name_texts[name]
  if text then return text end
  text = quoted(name)
  if not text then return nil end
  text = text .. ":"
  if #text <= NAME_LEN_MAX then keep_name(name, text) end
  return text
end

-- A copy of an object whose keys are strings. Returns nil and the reason if a key has no JSON form.
local function with_names(object)
  local copy = {}
  for key, value in next, object do
    local name = math_type(key) and tostring(key) or key
    if type(name) ~= "string" then
      return nil, "a key that is neither string nor number has no JSON form"
    end
    if copy[name] ~= nil then return nil, "two keys have the same JSON form" end
    copy[name] = value
  end
  return copy
end

-- The sorted names of an object's members; nil and the reason if a key has no JSON form.
local function sorted_names(object)
  local names, n = {}, 0
  for name in next, object do
    if not name_text(name) then return nil, "a key that is not UTF-8 has no JSON form" end
    n = n + 1
    names[n] = name
  end
  table.sort(names)
  return names
end

-- The text of an object. `names` are the names of its members.
local function members_text(writer, object, names)
  local parts, n = { "{" }, 1
  for _, name in ipairs(names) do
    local value, text = object[name], name_text(name)
    if text then
      parts[n + 1], parts[n + 2] = text, TEXT[type(value)](writer, value, name)
      parts[n + 3] = ","
      n = n + 3
    else
      refuse(writer, name, "a name that is not UTF-8 has no JSON form")
    end
  end
  parts[n > 1 and n or 2] = "}" -- this replaces the comma after the last member
  return concat(parts)
end

local function object_text(writer, object)
  local names, why
  for key in next, object do
    if type(key) ~= "string" then
      object, why = with_names(object)
      break
    end
  end
  if object then names, why = sorted_names(object) end
  if not names then return refuse(writer, nil, why) end
  return members_text(writer, object, names)
end

-- A copy of a table without its metatable.
local function plain(t)
  local copy = {}
  for key, value in next, t do copy[key] = value end
  return copy
end

local function table_text(writer, t)
  local mt, n = debug.getmetatable(t), nil
  if mt then t = plain(t) end
  if not mt or rawget(mt, "__jsontype") ~= "object" then n = list_length(t) end
  return n and list_text(writer, t, n) or object_text(writer, t)
end

TEXT.table = function(writer, t, key)
  local ancestors, depth = writer.ancestors, writer.depth + 1
  if ancestors[t] then
    return refuse(writer, key, "a table that contains itself has no JSON form")
  end
  if depth > DEPTH_MAX then return refuse(writer, key, "nested too deep for JSON") end
  ancestors[t], writer.depth, writer.keys[depth] = true, depth, key or false
  local text = table_text(writer, t)
  ancestors[t], writer.depth = nil, depth - 1
  return text
end

---The JSON text of a value. A part without a JSON form raises an fz.Error with its path. With the
---list `refused` it is written as null, and a member whose name has no JSON form is left out.
---@param value any
---@param names? string[] the value is an object of these members, in this order
---@param refused? string[] receives the messages about the first values without a JSON form
---@return string
---@return integer? count with `refused`: the number of values without a JSON form
function json.encode(value, names, refused)
  local writer = { ancestors = {}, keys = {}, depth = 0, refused = refused, nrefused = 0 }
  local text = names and members_text(writer, plain(value), names)
    or TEXT[type(value)](writer, value)
  return tostring(text), refused and writer.nrefused
end

return json
