-- fz.digest: the same number for the same values, in every process and run.
local t = ...
local tests = {}
local D = fz.digest

-- The output of a script in a process of its own.
local function run(text, ...)
  local out, err, status = t.command(t.file(text), ...)
  t.equal({ err, status }, { "", 0 })
  return out
end

tests["numbers of one value differ only if they can be told apart"] = function()
  local values = {
    n = 0, 1, 1.0, 0.0, -0.0, 0 / 0, math.huge, -math.huge, "1", true, false, "", "\0", {}, { {} },
    { false }, { [2] = 1 }, { 1, 2 }, { 2, 1 }, { [1.5] = 1 }, { a = 1 }, { b = 1 }, { a = { 1 } },
    math.mininteger, 2 ^ 53, print, string, io.stdout, io.stderr, _G,
  }
  local seen = {}
  for i, value in ipairs(values) do
    local digest = D(value)
    assert(digest:match "^%x+$" and #digest == 32)
    assert(not seen[digest], ("values %s and %d"):format(seen[digest], i))
    seen[digest] = i
  end
  assert(D() ~= D(nil) and D(nil) ~= D(nil, nil) and D({}, {}) ~= D { {}, {} })
  t.equal(D(0 / 0), D(-(0 / 0)))
  t.equal(D { [1.0] = 1 }, D { 1 })
end

tests["the order in which keys were added does not count"] = function()
  local a, b = {}, {}
  for i = 1, 300 do a["k" .. i], a[i * 7], a[i + 0.5] = i, i, i end
  for i = 300, 1, -1 do b[i + 0.5], b["k" .. i], b[i * 7] = i, i, i end
  t.equal(D(a), D(b))
  b.k7 = 8
  assert(D(a) ~= D(b))
  t.equal(D { 1, 2, nil, 4 }, D { [4] = 4, [2] = 2, [1] = 1 })
end

tests["cycles and references to one object count"] = function()
  local shared, cycle = {}, {}
  cycle.self = cycle
  assert(D { shared, shared } ~= D { {}, {} })
  assert(D(shared, shared) ~= D({}, {}))
  local other = {}
  other.self = { self = other }
  assert(D(cycle) ~= D(other))
  local again = {}
  again.self = again
  t.equal(D(cycle), D(again))
  local deep, twin = {}, {}
  for _ = 1, 1e5 do deep, twin = { deep }, { twin } end
  t.equal(D(deep), D(twin))
  deep = { deep }
  assert(D(deep) ~= D(twin))
end

tests["tables as keys count by their contents"] = function()
  t.equal(D { [{ 1 }] = "a", [{ 2 }] = "b" }, D { [{ 2 }] = "b", [{ 1 }] = "a" })
  assert(D { [{ 1 }] = "a", [{ 2 }] = "b" } ~= D { [{ 1 }] = "b", [{ 2 }] = "a" })
  t.equal(D { [{}] = 1, [{}] = 1 }, D { [{}] = 1, [{}] = 1 })
  local a, b = {}, {}
  t.equal(D { a = { a, b }, b = { [a] = 1, [b] = 2 } },
    D { a = { b, a }, b = { [b] = 1, [a] = 2 } })
  local ok, e = pcall(D, { a = { [a] = 1, [b] = 1 }, b = a })
  assert(not ok)
  t.equal(e.message, ".b: an object inside a table key that has the same contents as another "
    .. "key cannot be digested")
  local nested = {}
  for _ = 1, 12 do nested = { [nested] = 1, [{}] = 2 } end
  ok, e = pcall(D, nested)
  assert(not ok and e.message:find "nested this deep")
end

tests["a digest is the same in every process"] = function()
  local script = [[
function helper(x) return x + LIMIT end
LIMIT = 3
local k = {}
local t = { 1, 2.5, "x", k, k, [k] = { deep = true }, f = function(a) return helper(a) end }
for i = 1, 50 do t["key" .. i] = { i } end
t.t = t
print(fz.digest(t, -0.0, 1 << 40, print, fz.map))
print(fz.process and fz.map(function() return fz.digest(t) end, { 1 })[1] == fz.digest(t))]]
  local first = run(script)
  for _ = 1, 3 do t.equal(run(script), first) end
  assert(first:find "\ntrue\n")
  t.equal(run((script:gsub("\n", "\n-- a comment\n\n"))), first)
end

local function of_code(text) return D(assert(load(text))()) end

tests["a function counts by its code, not by lines, comments and names"] = function()
  local digest = of_code "local x = 1 return function(a) return a + x end"
  t.equal(of_code "local y = 1 -- y\n\n return function(b)\n -- b\n return b + y end", digest)
  assert(of_code "local x = 1 return function(a) return a + x + 1 end" ~= digest)
  assert(of_code "local x = 2 return function(a) return a + x end" ~= digest)
  local inner = of_code "return function() return function() return 1 end end"
  t.equal(of_code "return function() return function()\n return 1 end end", inner)
  assert(of_code "return function() return function() return 2 end end" ~= inner)
end

tests["a function counts by its upvalues and the globals it reads"] = function()
  local function use(x) return x end
  local f = function(x) return use(x) + _G_test(x) end -- luacheck: ignore
  _G._G_test = function(x) return x end
  local digest = D(f)
  t.equal(D(f), digest)
  local old = use
  use = function(x) return x, 1 end
  assert(D(f) ~= digest)
  use = old
  t.equal(D(f), digest)
  _G._G_test = function(x) return x * 2 end
  assert(D(f) ~= digest)
  _G._G_test = 3
  local number = D(f)
  _G._G_test = 4
  assert(D(f) ~= number)
  _G._G_test = nil
  local n = 0
  local inc, get = function() n = n + 1 end, function() return n end
  local zero = D(inc, get)
  inc()
  assert(D(inc, get) ~= zero)
end

tests["other variables around a function do not count"] = function()
  local function with(text)
    local f = load(text .. " local k, m = 1, 2 return function(a) return a + k * m end")
    return D(f())
  end
  local digest = with ""
  t.equal(with "local z = 3", digest)
  t.equal(with "local function f() end local x, y, z", digest)
  assert(D(load("local m, k = 1, 2 return function(a) return a + k * m end")()) ~= digest)
  local function nested(text)
    local code = " return function(a) local b = a return function() return a - b end end"
    return D(load(text .. code)())
  end
  t.equal(nested "local z = 3", nested "")
end

tests["what the tables share that functions hold counts"] = function()
  local function pair(a, b) return function() return a, b end end
  local part = { 1, 2 }
  local function shared() return pair({ part }, { part }) end
  local function copied() return pair({ { 1, 2 } }, { { 1, 2 } }) end
  local function mixed() return pair({ part }, { part, f = function() end }) end
  local function apart() return pair({ { 1, 2 } }, { { 1, 2 }, f = function() end }) end
  local function outer() return pair({ part, f = function() end }, { part }) end
  local function alone() return pair({ part, f = function() end }, { { 1, 2 } }) end
  local function same() return pair(part, part) end
  local function equal() return pair({ 1, 2 }, { 1, 2 }) end
  local seen = {}
  for i, f in ipairs { shared, copied, mixed, apart, outer, alone, same, equal } do
    local digest = D(f())
    t.equal(D(f()), digest)
    t.equal(seen[digest], nil)
    seen[digest] = i
  end
  assert(D(pair(part), part) ~= D(pair(part), { 1, 2 }))
  assert(D(part, pair(part)) ~= D({ 1, 2 }, pair(part)))
  local cycle = {}
  cycle[1] = cycle
  t.equal(D(pair(cycle)), D(pair((function() local c = {} c[1] = c return c end)())))
  assert(D(pair(cycle)) ~= D(pair { { cycle } }))
end

tests["with a session, tables that functions hold are digested once, and the same"] = function()
  local core = require "fzlua.core"
  local big, shared, odd = {}, { 7 }, { print }
  for i = 1, 1000 do big[i] = { i, shared, ["k" .. i] = i * 0.5, [{ i }] = 1 } end
  local fs = {}
  for i = 1, 20 do
    fs[i] = function() return big, odd, i, i % 2 == 0 and shared or i end
  end
  local session = { [true] = {} }
  for i = 1, 20 do t.equal(core.digest_in(session, fs[i]), core.digest_in({}, fs[i])) end
  local n = 0
  for key in pairs(session[true]) do n = n + (type(key) == "table" and 1 or 0) end
  t.equal(n, 2) -- "shared" is in "big"
end

tests["metatables of tables that functions hold count, each table is digested once"] = function()
  local core = require "fzlua.core"
  local function class(n) return { __index = { f = load(("return %d + _G_late"):format(n)) } } end
  local function object(x, mt) return setmetatable({ x = x }, mt) end
  local function hold(list) return function() return list end end
  local Registered = {}
  fz.register_class("digest.Held", Registered)
  local function cyclic(n)
    local mt, list = class(n), {}
    mt.__index.g = hold(list)
    list[1] = object(1, mt)
    return list
  end
  local function with(...)
    local classes, list = { ... }, {}
    for i = 1, 4 do list[i] = object(i, classes[(i - 1) % #classes + 1]) end
    return list
  end
  local function in_keys(a, b) return { [object(1, a)] = 1, [object(2, b)] = 2 } end
  local cases = {
    function() return with(class(1)) end, function() return with(class(2)) end,
    function() return with(class(1), class(1)) end, function() return with(class(1), class(2)) end,
    function() return with(class(2), class(1)) end, function() return with(Registered) end,
    function() return with {} end, function() return { with(class(1)) } end,
    function() local mt = class(1) return { with(mt), mt } end,
    function() local mt = class(1) return { mt, with(mt) } end,
    function() return { with(class(1)), class(1) } end,
    function() local mt = { 1 } return { with(mt), mt } end,
    function() return { with { 1 }, { 1 } } end,
    function() local mt = {} return { setmetatable(mt, mt) } end,
    function() return cyclic(1) end, function() return cyclic(2) end,
    function() return in_keys(class(1), class(2)) end,
    function() return in_keys(class(2), class(1)) end,
  }
  local seen, session = {}, { [true] = {} }
  for round = 1, 2 do
    _G._G_late = round
    for i, case in ipairs(cases) do
      local digest, f = D(hold(case())), hold(case())
      t.equal({ i, seen[digest] }, { i })
      t.equal(D(f), digest)
      local again = core.digest_in(session, f)
      t.equal({ again, core.digest_in({}, f) }, { again, again })
      if i ~= 6 and i ~= 7 and i ~= 12 and i ~= 13 and i ~= 14 then seen[digest] = i end
    end
  end
  local list = with(class(1))
  local digest = core.digest_in(session, hold(list))
  list[1].x = 2 -- a session does not see this change, which no script can make during an invoke
  t.equal(core.digest_in(session, hold(list)), digest)
  assert(core.digest_in({}, hold(list)) ~= digest)
  _G._G_late = nil
end

tests["globals behind the 256th constant count, and so do those of inner functions"] = function()
  local code = { "return function() local t = {} " }
  for i = 1, 300 do code[#code + 1] = ("t[%d] = 'c%d' "):format(i, i) end
  code[#code + 1] = "return _G_late() end"
  local f = load(table.concat(code))()
  _G._G_late = 1
  local digest = D(f)
  _G._G_late = 2
  assert(D(f) ~= digest)
  f = load "return function() return function() return function() return _G_late end end end"()
  digest = D(f)
  _G._G_late = 3
  assert(D(f) ~= digest)
  _G._G_late = nil
end

tests["a function counts by the modules that it requires, and those by their files"] = function()
  local dir = t.file ""
  os.remove(dir)
  assert(os.execute(("mkdir %s"):format(dir)))
  local function write(name, text)
    local file <close> = assert(io.open(("%s/%s.lua"):format(dir, name), "w"))
    file:write(text)
  end
  local script = ([[package.path = "%s/?.lua;" .. package.path
local one = require "dig_one"
print(fz.digest(function() return one.f() end))
print(fz.digest(function() return require("dig_one").f() end))
print(fz.digest(function() return pcall(require, "dig_two") end))
print(fz.digest(function() return 1 end))]]):format(dir)
  local function digests()
    local list = {}
    for line in run(script):gmatch "%x+" do list[#list + 1] = line end
    t.equal(#list, 4)
    return list
  end
  local function changed(a, b)
    local flags = ""
    for i = 1, 4 do flags = flags .. (a[i] == b[i] and "." or "!") end
    return flags
  end
  write("dig_one", "local two = require 'dig_two' return { f = function() return two.x end }")
  write("dig_two", "return { x = 1, one = function() return require 'dig_one' end }")
  local first = digests()
  write("dig_two", "-- a comment\nreturn { x = 1, one = function() return require 'dig_one' end }")
  t.equal(changed(first, digests()), "....")
  write("dig_two", "return { x = 2, one = function() return require 'dig_one' end }")
  t.equal(changed(first, digests()), "!!!.")
  write("dig_two", "return { x = 1 }")
  local second = digests()
  write("dig_one", "local two = require 'dig_two' return { f = function() return two.x + 1 end }")
  t.equal(changed(second, digests()), "!!..")
  os.execute(("rm -r %s"):format(dir))
end

tests["registered classes count by name and methods, also where a function calls one"] = function()
  local Base, Point = { norm = function(p) return p.x end }, { __name = "p" }
  Base.__index, Point.__index = Base, Point
  setmetatable(Point, Base)
  local point, list = setmetatable({ x = 3 }, Point), { { 1 } }
  list[2] = setmetatable({ list[1] }, Point)
  function Point.new(x) return setmetatable({ x = x }, Point) end
  fz.register_class("digest.Point", Point)
  local unsure = setmetatable({ __index = { co = coroutine.create(print) } }, nil)
  fz.register_class("digest.Unsure", unsure)
  local values = {
    point, function() return point:norm() end, function(x) return Point.new(x) end, Point,
    function() return list[2]:norm() end, { [point] = 1 },
  }
  local function digests()
    local session, all = { [true] = {} }, {}
    for i, value in ipairs(values) do
      all[i] = require "fzlua.core".digest_in(session, value)
      t.equal(require "fzlua.core".digest_in({}, value), all[i])
    end
    return all
  end
  local before = digests()
  local function all_differ()
    local now = digests()
    for i in ipairs(values) do assert(now[i] ~= before[i], i) end
    before = now
  end
  t.equal(digests(), before)
  function Point.norm(p) return p.x + 1 end
  all_differ()
  function Base.area(p) return p.x end
  all_differ()
  -- A class without a digest counts by its name.
  local digest = D(setmetatable({}, unsure))
  unsure.__index.f = function() end
  t.equal(D(setmetatable({}, unsure)), digest)
end

tests["registered classes and values count by name"] = function()
  local A, B = { __index = { f = print } }, {}
  fz.register_class("digest.A", A)
  fz.register_class("digest.B", B)
  local a, b = setmetatable({ x = 1 }, A), setmetatable({ x = 1 }, B)
  assert(D(a) ~= D(b) and D(a) ~= D { x = 1 })
  A.__fzpack = function(self) return { self.x } end
  t.equal(D(setmetatable({ x = 1, cached = {} }, A)), D(setmetatable({ x = 1 }, A)))
  local null = {}
  fz.register_value("digest.null", null)
  local digest = D { null }
  null.x = 1
  t.equal(D { null }, digest)
  assert(D(A) ~= D(B))
  local M = { __index = { g = function() return 1 end } }
  digest = D(setmetatable({}, M))
  M.__index.g = function() return 2 end
  assert(D(setmetatable({}, M)) ~= digest)
end

tests["what cannot be digested raises an error with its path"] = function()
  local co = coroutine.create(print)
  local lock = fz.lock()
  local cases = {
    { { a = { co } }, ".a[1]: a coroutine cannot be digested" },
    { { q = fz.queue() }, ".q: a fzlua.Queue, which belongs to one run, cannot be digested" },
    { { [co] = 1 }, "<key>: a coroutine cannot be digested" },
    { function() return lock end,
      "<upvalue lock>: a fzlua.Lock, which belongs to one run, cannot be digested" },
    { { io.tmpfile() }, "[1]: a FILE* cannot be digested" },
    { string.gmatch("", ""), "a C function that no loaded module has cannot be digested" },
    { fz.stage "x", "a fzlua.Stage cannot be digested" },
  }
  for _, case in ipairs(cases) do
    local ok, e = pcall(D, case[1])
    t.equal({ ok, e.kind, e.message }, { false, "unsendable", case[2] })
  end
  _G._G_bad = co
  for _, f in ipairs {
    function() return _G_bad end, -- luacheck: ignore
    function() return _G._G_bad end,
  } do
    local ok, e = pcall(D, 1, f)
    t.equal({ ok, e.value }, { false, 2 })
    t.equal(e.message, "<global _G_bad>: a coroutine cannot be digested")
  end
  _G._G_bad = nil
end

-- The digests of functions before a script changes something, after it, and when it is undone.
local function around_change(functions, change, undo)
  local core = require "fzlua.core"
  local all = {}
  for i, act in ipairs { function() end, change, undo } do
    act()
    local session = {}
    all[i] = {}
    for k, f in ipairs(functions) do
      all[i][k] = D(f)
      t.equal(core.digest_in(session, f), core.digest_in({}, f))
    end
  end
  t.equal(all[3], all[1])
  local flags = ""
  for k in ipairs(functions) do flags = flags .. (all[1][k] == all[2][k] and "." or "!") end
  return flags
end

tests["what a script has put into a module counts"] = function()
  local path = t.file "return { level = 1, seen = {}, _count = 0, set = function() end }"
  local directory, name = path:match "^(.*)/([^/]*)$"
  local before = package.path
  package.path = directory .. "/?;" .. before
  local _ <close> = setmetatable({}, { __close = function() package.path = before end })
  local M = require(name)
  local functions = { function() return M.level end,
    assert(load(("return function() return require %q end"):format(name)))(),
    function() return 1 end }
  local function with(field, value)
    local old = M[field]
    return around_change(functions, function() M[field] = value end,
      function() M[field] = old end)
  end
  t.equal(with("level", 2), "!!.")
  t.equal(with("level", "1"), "!!.")
  t.equal(with("level", nil), "!!.")
  t.equal(with("further", true), "!!.")
  -- what a module keeps for itself
  t.equal(with("_count", 1), "...")
  t.equal(with("seen", { 1 }), "...")
  t.equal(with("set", function() return 2 end), "...")
  package.loaded[name] = nil
end

tests["a function of a script in a module of Lua counts, and so do fields of _G"] = function()
  local gsub, floor = string.gsub, math.floor
  local functions = {
    function(s) return s:_trim() end,
    function(s) return string._trim(s) end, -- luacheck: ignore
    function() return math.floor(2) end, function() return _G._G_field end, -- luacheck: ignore
    function() return 1 end, function(s) return gsub(s, "a", "b") end,
  }
  -- luacheck: push ignore 122 142 143
  t.equal(around_change(functions, function() string._trim = function() return 1 end end,
    function() string._trim = nil end), "!!....")
  t.equal(around_change(functions, function() math.floor = function() return 2 end end,
    function() math.floor = floor end), "..!...")
  -- This function has no digest: that it is there counts.
  t.equal(around_change(functions, function() math.floor = function(x) return floor(x) end end,
    function() math.floor = floor end), "..!...")
  t.equal(around_change(functions, function() math.tau = 6.28 end,
    function() math.tau = nil end), "..!...")
  -- luacheck: pop
  t.equal(around_change(functions, function() _G._G_field = 2 end,
    function() _G._G_field = nil end), "...!..")
  local G = _G
  functions = {
    function() return tostring(G._G_field) end, -- luacheck: ignore
    function() return tostring(1), (function() return G._G_field end)() end, -- luacheck: ignore
    function() local g = _G return (function() return g._G_field end)() end, -- luacheck: ignore
    function() local e = _ENV return (function() return e._G_field end)() end, -- luacheck: ignore
    function() return tostring(1) end,
  }
  t.equal(around_change(functions, function() _G._G_field = 2 end,
    function() _G._G_field = nil end), "!!!!.")
end

return tests
