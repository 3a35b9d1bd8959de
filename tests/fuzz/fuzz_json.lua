-- Random and changed documents given to the JSON reader: fzlua fuzz_json.lua [ROUNDS]
--
-- The reader must raise an fz.Error that names the place, or return a value that stays the same
-- when it is written and read again. Reading and writing must take few instructions of Lua for each
-- byte.

local Error = require "fzlua.error"
local json = require "fzlua.json"

local ROUNDS <const> = math.tointeger(arg[1]) or 200000
local STEPS_START <const>, STEPS_PER_BYTE <const> = 10000, 1000

local SEEDS = {
  '{"name":"a \\"b\\" \\u00e9\\ud83d\\ude00","list":[1,-2.5e-3,1e20,true,false,null]}',
  '[[],{},[{}],{"a":{"b":[null,{"c":[]}]}},"日本\\n\\t\\/"]',
  '\n { "1" : 1 , "n" : 0 }\r\n',
  '[9223372036854775807,-9223372036854775808,-0,-0.0,5e-324,0.1,1E+2]',
  '{"key":"value","key":null,"n":3,"' .. ("x"):rep(100) .. '":"\\u0000"}',
}

local DEEP = ("["):rep(2040) .. ("]"):rep(2040)

local PIECES = { "{", "}", "[", "]", ",", ":", '"', "\\", "\\u", "\\ud800", "\\udc00",
  "\\ud83d\\ude00", "true", "false", "null", "n", "-", "0", "1", "9", ".", "e", "E+", "1e400",
  "9223372036854775808", " ", "\n", "\t", "\0", "\x7f", "\xff", "\xc0\x80", "\xed\xa0\x80", "é",
  "日", '{"a":', '"n":1' }

local random = math.random

local function random_piece()
  return random(8) == 1 and string.char(random(0, 255)) or PIECES[random(#PIECES)]
end

local function random_text()
  local parts = {}
  for i = 1, random(0, 12) do parts[i] = random_piece() end
  return table.concat(parts)
end

-- Replace a few bytes of the text by a piece or by another part of the text, or remove them.
local function change(text)
  local at, left = random(#text + 1), random(0, 4)
  local from = random(#text + 1)
  local part = ({ random_piece(), text:sub(from, from + random(0, 20)), "" })[random(3)]
  return text:sub(1, at - 1) .. part .. text:sub(at + left)
end

local function random_document()
  if random(4) == 1 then return random_text() end
  local text = random(200) == 1 and DEEP or SEEDS[random(#SEEDS)]
  for _ = 1, random(0, 5) do text = change(text) end
  return text
end

local function read_and_write(text)
  local ok, value = pcall(json.decode, text)
  if not ok then
    assert(Error.is(value, "error"), value)
    assert(value.message:find "^not JSON: line %d+, column %d+: ", value.message)
    return
  end
  local written = json.encode(value)
  assert(json.encode(json.decode(written)) == written, "another value is read again")
end

math.randomseed(1)
for _ = 1, ROUNDS do
  local text = random_document()
  debug.sethook(function() error "it takes too long" end, "",
    STEPS_START + STEPS_PER_BYTE * #text)
  local ok, why = pcall(read_and_write, text)
  debug.sethook()
  if not ok then
    io.stderr:write(("%s: %q\n"):format(why, text))
    os.exit(1)
  end
end
print(("%d documents read"):format(ROUNDS))
