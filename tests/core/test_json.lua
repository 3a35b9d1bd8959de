local t = ...
local json = require "fzlua.json"
local encode, decode = json.encode, json.decode
local tests = {}

local function refused(value, ...)
  t.match(t.fails("error", encode, value).message, ...)
end

-- The text is not valid JSON. The message names this line and column.
local function rejected(text, line, column, ...)
  local message = t.fails("error", decode, text).message
  t.match(message, ("not JSON: line %d, column %d: "):format(line, column), ...)
end

tests["integers and floats stay what they are"] = function()
  t.equal({ encode(1), encode(1.0), encode(-0.0), encode(2 ^ 53), encode(math.mininteger) },
    { "1", "1.0", "-0.0", "9007199254740992.0", "-9223372036854775808" })
  t.equal({ decode "1", decode "1.0", decode "1e2" }, { 1, 1.0, 100.0 })
end

tests["integers are exact up to 64 bits, and larger ones are refused"] = function()
  for _, text in ipairs { "9223372036854775807", "-9223372036854775808", "0", "-1" } do
    t.equal(math.type(decode(text)), "integer")
    t.equal(encode(decode(text)), text)
  end
  t.equal(decode "-0", 0)
  for _, text in ipairs { "9223372036854775808", "-9223372036854775809", ("9"):rep(400) } do
    rejected(text, 1, 1, "64 bits")
  end
  t.equal(decode "9223372036854775808.0", 2.0 ^ 63)
  t.equal(encode(2.0 ^ 63), "9.223372036854776e+18")
end

tests["all forms of a number are read, and no others"] = function()
  t.equal({ decode "1E2", decode "1e+2", decode "25e-1", decode "-0.5", decode "1.5E+1" },
    { 100.0, 100.0, 2.5, -0.5, 15.0 })
  t.equal({ 1 / decode "-0.0", decode "1e-999" }, { -math.huge, 0.0 })
  for _, text in ipairs { "01", "-01", "-", "1.", "-.5", "1.e5", "1e", "1e+", "--1", "1.2-3",
    "1.2.3" } do
    rejected(text, 1, 1, "malformed")
  end
  for _, text in ipairs { "+1", ".5", "Infinity", "NaN", "-x" } do rejected(text, 1, 1) end
  rejected("0x10", 1, 2)
  rejected("[1e999]", 1, 2, "too large")
end

tests["floats are the shortest text that reads back"] = function()
  t.equal({ encode(0.1), encode(1 / 3), encode(5e-324), encode(1e100) },
    { "0.1", "0.3333333333333333", "5e-324", "1e+100" })
  for _ = 1, 20000 do
    local x = string.unpack("d", string.pack("j", math.random(0)))
    if x == x and x - x == 0 then t.equal(decode(encode(x)), x) end
  end
end

tests["lists, objects with sorted keys, holes and null"] = function()
  t.equal(encode { 1, { b = 1, a = { true } }, "x" }, '[1,{"a":[true],"b":1},"x"]')
  t.equal(encode { 1, nil, 3 }, "[1,null,3]")
  t.equal(encode { 1, x = 2 }, '{"1":1,"x":2}')
  t.equal(encode({ b = 1, c = 3 }, { "c", "a", "b" }), '{"c":3,"a":null,"b":1}')
  t.equal(decode '{"a":null,"b":[1,{"c":false}]}', { b = { 1, { c = false } } })
  assert(decode "null" == nil)
end

tests["a list with null has its length in n, and comes back as it was"] = function()
  t.equal(decode "[1,null,3]", { 1, nil, 3, n = 3 })
  t.equal(decode "[null,[2,null]]", { nil, { 2, nil, n = 2 }, n = 2 })
  t.equal(decode "[1,2]", { 1, 2 })
  local long = "[1," .. ("null,"):rep(900) .. "null]"
  for _, text in ipairs { "[1,null,3]", "[1,null,null]", "[null,null,1]", "[[],[1,null]]", long } do
    t.equal(encode(decode(text)), text)
  end
end

tests["n is a length only where it can be one"] = function()
  t.equal(encode { n = 3 }, '{"n":3}')
  t.equal(encode { 1, 2, n = 1 }, '{"1":1,"2":2,"n":1}')
  t.equal(encode { 1, n = 2.0 }, '{"1":1,"n":2.0}')
  t.equal(encode { 1, n = -1 }, '{"1":1,"n":-1}')
  t.equal(encode { 1, n = 2, m = 3 }, '{"1":1,"m":3,"n":2}')
  t.equal(encode { 1, n = math.maxinteger }, '{"1":1,"n":9223372036854775807}')
  t.equal(encode { n = 0 }, "[]")
end

tests["an object stays an object, also where it looks like a list"] = function()
  for _, text in ipairs { "{}", "[]", '[{},{"a":{}}]', '{"n":0}', '{"n":3}', '{"1":true}' } do
    t.equal(encode(decode(text)), text)
  end
  t.equal(encode(decode '{"a":null}'), "{}")
  local object = decode "{}"
  object[1] = true
  t.equal(encode(object), '{"1":true}')
  t.equal(getmetatable(decode '{"a":1}'), nil)
  t.equal(encode(setmetatable({}, { __jsontype = "object" })), "{}") -- as dkjson marks objects
end

tests["an empty object crosses processes as one"] = function()
  local function through(v) return v, { v } end
  local object = decode '{"a":{},"b":[]}'
  for _, jobs in ipairs { 0, 2 } do
    local got = fz.map(through, { object, decode "{}" }, { jobs = jobs })
    t.equal({ encode(got[1]), encode(got[2]) }, { '{"a":{},"b":[]}', "{}" })
  end
  t.equal(encode(fz.unpack(fz.pack(decode "[{}]"))), "[{}]")
  local queue = fz.queue()
  queue:put(decode "{}")
  t.equal(encode(queue:get()), "{}")
end

tests["what has no JSON form can be noted and written as null"] = function()
  local noted = {}
  local text, count = encode({ a = { 1 / 0 }, b = { [print] = 1 }, c = 1 }, nil, noted)
  t.equal({ text, count }, { '{"a":[null],"b":null,"c":1}', 2 })
  t.match(table.concat(noted, "\n"), ".a[1]: infinity", ".b: a key")
  t.equal({ encode(1, nil, {}) }, { "1", 0 })
  local many, messages = {}, {}
  for i = 1, 30 do many[i] = print end
  t.equal(select(2, encode(many, nil, messages)), 30)
  t.equal(#messages, 20)
  t.equal({ encode({ ["a\xff"] = 1, b = 2 }, { "a\xff", "b" }, {}) }, { '{"b":2}', 1 })
end

tests["a value that occurs twice is written twice"] = function()
  local twice = { 1 }
  t.equal(encode { a = twice, b = { twice, twice } }, '{"a":[1],"b":[[1],[1]]}')
end

tests["keys that are numbers are written as texts"] = function()
  t.equal(encode { [1.5] = "x", a = 1, [-1] = 2 }, '{"-1":2,"1.5":"x","a":1}')
  t.equal(encode { [2 ^ 70] = true }, '{"1.1805916207174e+21":true}')
  refused({ [1.5] = 1, [1.5 + 2 ^ -52] = 2 }, "two keys")
end

tests["tables are read without their metamethods"] = function()
  local mt = { __index = function() error "called" end, __pairs = error, __len = error }
  t.equal(encode(setmetatable({ 1, nil, 3 }, mt)), "[1,null,3]")
  t.equal(encode(setmetatable({ a = 1 }, mt)), '{"a":1}')
  t.equal(encode(setmetatable({ 1 }, { __metatable = false, __jsontype = "object" })), '{"1":1}')
  refused(setmetatable({ f = print }, mt), ".f", "function")
end

tests["strings are escaped and any text comes back"] = function()
  t.equal(encode 'q"\\\n\t\1é', [["q\"\\\n\t\u0001é"]])
  for _, text in ipairs { "", "\0", "日本", ("x"):rep(10000), "\u{10FFFF}" } do
    t.equal(decode(encode(text)), text)
  end
end

tests["all escapes are read"] = function()
  t.equal(decode [["\"\\\/\b\f\n\r\t"]], '"\\/\b\f\n\r\t')
  t.equal(decode [["\u00e9\u00E9\u65e5\u0000x"]], "éé日\0x")
  t.equal(decode [["a\ud83d\ude00\uDBFF\uDFFFb"]], "a😀\u{10FFFF}b")
  t.equal(decode [[{"a\u0000\"":1}]], { ['a\0"'] = 1 })
  for _, text in ipairs { "x", "u12", "u12g4", "U0041" } do
    rejected('["a", "b\\' .. text .. '"]', 1, 9, "escape")
  end
  for _, text in ipairs { [[\ud83d]], [[\ude00]], [[\ud83d\u0041]], [[\ude00\ud83d]],
    [[\ud83dx]] } do
    rejected('"' .. text .. '"', 1, 2, "surrogate")
  end
end

tests["a string ends with a quote and has no control characters"] = function()
  for _, text in ipairs { '"', '"abc', [["a\"]], [["a\n\\b]] } do
    rejected(text, 1, 1, "closing quote")
  end
  for _, char in ipairs { "\0", "\n", "\31" } do
    rejected('"a' .. char .. 'b"', 1, 3, "control")
    rejected('"\\n' .. char .. '"', 1, 4, "control")
  end
  t.equal(decode '"\127"', "\127")
end

tests["text that is not UTF-8 is refused"] = function()
  for _, bytes in ipairs { "\xff", "\x80", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
    "\xf8\x88\x80\x80\x80" } do
    rejected('["é",\n"日' .. bytes .. '"]', 2, 3, "UTF-8")
    refused({ bytes }, "[1]", "UTF-8")
  end
  rejected("\xff", 1, 1, "UTF-8")
end

tests["white space is skipped"] = function()
  t.equal(decode ' \t\r\n{ "a" :\n[ 1 ,\t2 ] , "b" : { } }\n ', { a = { 1, 2 }, b = {} })
  t.equal(decode " [ ] ", {})
  rejected("[1,\v2]", 1, 4, "U+000B")
  rejected("\u{FEFF}1", 1, 1, "U+FEFF")
  rejected("1\0", 1, 2, "U+0000")
end

tests["the last of members with the same name counts"] = function()
  t.equal(decode '{"a":1,"b":2,"a":3}', { a = 3, b = 2 })
  t.equal(decode '{"a":1,"a":null}', {})
  t.equal(encode(decode '{"a":1,"a":null}'), "{}")
end

-- Before Lua 5.4.3 functions call each other on the C stack, which has room for fewer levels.
local function deep_calls(n) return n > 0 and 1 + deep_calls(n - 1) or 0 end
local CALLS_ARE_DEEP <const> = pcall(deep_calls, 10000)

tests["2048 levels can be nested"] = function()
  if not CALLS_ARE_DEEP then return end
  local lists = ("["):rep(2048) .. ("]"):rep(2048)
  local objects = ('{"a":'):rep(2047) .. "{}" .. ("}"):rep(2047)
  t.equal(encode(decode(lists)), lists)
  t.equal(encode(decode(objects)), objects)
    rejected("[" .. lists .. "]", 1, 2049, "2048 levels")
  rejected('{"b":' .. objects .. "}", 1, 5 * 2048 + 1, "2048 levels")
  rejected(("["):rep(5000), 1, 2049, "2048 levels")
  refused({ decode(lists) }, "[1][1]", "...: ", "deep")
  local deep = {}
  for _ = 1, 3000 do deep = { deep } end
  refused(deep, "deep")
  t.equal(select(2, encode(deep, nil, {})), 1)
end

tests["what has no JSON form is refused with its path"] = function()
  refused(0 / 0, "NaN")
  refused({ rows = { 1, { x = 1 / 0 } } }, ".rows[2].x", "infinity")
  refused({ a = "\xff" }, ".a", "UTF-8")
  refused({ a = { ["\xff"] = 1 } }, ".a", "UTF-8")
  refused({ print }, "[1]", "function")
  refused({ [true] = 1 }, "key")
  refused({ [1] = 1, ["1"] = 2, x = 3 }, "two keys")
  local loop = {}
  loop.a = { loop }
  refused(loop, ".a[1]", "itself")
  refused(print, "JSON: a function")
  refused(io.stdout, "userdata")
  refused({ { coroutine.create(print) } }, "[1][1]", "thread")
end

tests["text that is no JSON is refused with its place"] = function()
  rejected("", 1, 1, "a value", "end of the text")
  rejected(" \n ", 2, 2, "a value", "end of the text")
  rejected("[1,", 1, 4, "a value", "end of the text")
  rejected("[1,]", 1, 4, "a value", "']'")
  rejected("[1 2]", 1, 4, "',' or ']'", "'2'")
  rejected("[1}", 1, 3, "',' or ']'", "'}'")
  rejected("{a:1}", 1, 2, "name in double quotes", "'a'")
  rejected('{"a":1,}', 1, 8, "name in double quotes", "'}'")
  rejected('{"a" 1}', 1, 6, "':'", "'1'")
  rejected('{"a":1 "b":2}', 1, 8, "',' or '}'")
  rejected('{"a":1]', 1, 7, "',' or '}'", "']'")
  rejected('{"é":1,\n"日本" , 1}', 2, 6, "':'", "','")
  rejected("nul", 1, 1, "'nul'")
  rejected("[nulls]", 1, 2, "'nulls'")
  rejected("True", 1, 1, "'True'")
  rejected("1 2", 1, 3, "the end of the text", "'2'")
  rejected("{}\n\n  é", 3, 3, "the end of the text", "U+00E9")
  rejected(("a"):rep(100), 1, 1, "'" .. ("a"):rep(20) .. "'")
end

return tests
