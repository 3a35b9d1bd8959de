local t = ...
local core = require "fzlua.core"
local encode, decode = core.json_encode, core.json_decode
local tests = {}

local function refused(value, ...)
  t.match(t.fails("error", encode, value).message, ...)
end

tests["integers and floats stay what they are"] = function()
  t.equal({ encode(1), encode(1.0), encode(-0.0), encode(2 ^ 53), encode(math.mininteger) },
    { "1", "1.0", "-0.0", "9007199254740992.0", "-9223372036854775808" })
  t.equal({ decode "1", decode "1.0", decode "1e2" }, { 1, 1.0, 100.0 })
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
  t.equal(encode(setmetatable({}, { __jsontype = "object" })), "{}") -- that of dkjson
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
  local deep = {}
  for _ = 1, 3000 do deep = { deep } end
  t.equal(select(2, encode(deep, nil, {})), 1)
end

tests["strings are escaped and any text comes back"] = function()
  t.equal(encode 'q"\\\n\t\1é', [["q\"\\\n\t\u0001é"]])
  for _, text in ipairs { "", "\0", "日本", ("x"):rep(10000), "\u{10FFFF}" } do
    t.equal(decode(encode(text)), text)
  end
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
  local deep = {}
  for _ = 1, 3000 do deep = { deep } end
  refused(deep, "deep")
end

tests["text that is no JSON is refused with its place"] = function()
  for _, text in ipairs { "", "[1,", "{a:1}", "nul", "1e999", ("9"):rep(20), ("["):rep(5000),
    "1 2" } do
    t.match(t.fails("error", decode, text).message, "line ")
  end
end

return tests
