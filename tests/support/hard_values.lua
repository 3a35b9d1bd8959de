-- hard_values.lua - values that are hard to send: objects whose __fzpack drops values, collects
-- garbage, raises errors or packs other values; weak tables, names, cycles.
--
-- A case has make(), which returns a value, and check(), which returns nil if the received value is
-- correct, or a description of what is wrong.
local fz = require "fzlua"

local N <const> = 120 -- objects dropped: so many that a new one gets the address of one of them
local made -- the result of the last __fzpack, which must stay alive

-- A class whose objects are packed as `pack` says.
local function class(name, pack)
  local mt = { __name = name, __fzpack = pack, __fzunpack = function(plain) return plain end }
  return fz.register_class("routes." .. name, mt)
end

local function collect()
  collectgarbage()
  collectgarbage()
end

local Dropper = class("Dropper", function(self)
  for _, key in ipairs(self.drop) do self.home[key] = nil end
  if self.collect then collect() end
  made = {}
  for i = 1, N do made[i] = self.fresh(i) end
  return made
end)

-- A list of the values in `home` and of objects of Dropper, which drop these values when they are
-- packed. Each object is packed as a list of new values fresh(i).
local function dropping(home, fresh, collects)
  local value = { home }
  for i = 2, 5 do
    local drop = i == 2 and { "a", "b" } or {}
    local object = { home = home, drop = drop, fresh = fresh, collect = collects }
    value[i] = setmetatable(object, Dropper)
  end
  return value
end

local function fill(make)
  local list = {}
  for i = 1, N do list[i] = make(i) end
  return list
end

-- Check that same(element, i) is true for each element of the packed lists.
local function check_lists(value, same)
  for k = 2, 5 do
    for i = 1, N do
      if not same(value[k][i], i) then return ("object %d, element %d"):format(k - 1, i) end
    end
  end
end

local function is_table(e, i) return type(e) == "table" and e.fresh == i end
local function is_text(e, i) return e == "a fresh text " .. i end
local function is_function(e, i) return type(e) == "function" and e() == "fresh" .. i end

local function fresh_table(i) return { fresh = i } end
local function fresh_text(i) return "a fresh text " .. i end
local function fresh_function(i)
  local text = "fresh" .. i
  return function() return text end
end

local cases = {}

local function case(name, make, check)
  cases[#cases + 1] = { name = name, make = make, check = check }
end

for _, collects in ipairs { false, true } do
  local how = collects and " and collected" or ""
  case("tables that are dropped" .. how, function()
    local home = { a = fill(function(i) return { old = i } end), b = {} }
    return dropping(home, fresh_table, collects)
  end, function(value) return check_lists(value, is_table) end)

  case("texts that are dropped" .. how, function()
    local home = { a = fill(function(i) return "an old text  " .. i end), b = {} }
    for i, text in ipairs(home.a) do home.b[i] = text end -- each text is sent twice
    return dropping(home, fresh_text, collects)
  end, function(value) return check_lists(value, is_text) end)

  case("functions that are dropped" .. how, function()
    local home = { a = fill(function(i) return function() return "old", i end end) }
    return dropping(home, fresh_function, collects)
  end, function(value) return check_lists(value, is_function) end)
end

for _, mode in ipairs { "k", "v" } do
  case("a weak table, mode " .. mode, function()
    local weak = setmetatable({}, { __mode = mode })
    for i = 1, N do
      if mode == "k" then weak[{ i }] = { i } else weak[i] = { { i } } end
    end
    return dropping({ a = 1, weak = weak }, fresh_table, true)
  end, function(value) return check_lists(value, is_table) end)
end

local Leaver = class("Leaver", function(self)
  debug.upvaluejoin(self.f, 1, function() return self end, 1)
  collect()
  made = fill(fresh_function)
  return made
end)

case("an upvalue that its function has left", function()
  local value = { {} }
  for i = 1, N do
    local old = "old"
    value[1][i] = function() return old end
  end
  for i = 2, 5 do value[i] = setmetatable({ f = value[1][i] }, Leaver) end
  return value
end, function(value) return check_lists(value, is_function) end)

case("finalizers that drop", function()
  local value = { {}, home = { a = fill(fresh_table) } }
  for _ = 1, 3 do
    setmetatable({}, { __gc = function()
      value.home.a = nil
      value[2] = value[2] or fill(fresh_table)
    end })
  end
  value[1] = fill(function(i) return { fresh = i, self = value.home, f = print } end)
  return value
end, function(value)
  for i = 1, N do
    local element = value[1][i]
    if not is_table(element, i) or element.self ~= value.home then return "element " .. i end
  end
end)

local Caller = class("Caller", function(self)
  local inner = fz.unpack(fz.pack { self.shared, self.shared }) -- a message in a message
  local q = fz.queue()
  q:put(inner)
  local got = q:get()
  local co = coroutine.wrap(function()
    coroutine.yield(#fz.pack(self.shared, { self.shared }))
    return collect()
  end)
  return { got[1] == got[2], co() > 0, co() == nil, self.shared }
end)

case("packers that pack, put and start coroutines", function()
  local shared = { "shared" }
  local value = { shared }
  for i = 2, 9 do value[i] = setmetatable({ shared = shared }, Caller) end
  return value
end, function(value)
  for i = 2, 9 do
    local v = value[i]
    if not (v[1] and v[2] and v[3]) then return "object " .. i end
    if v[4] ~= value[1] or v[4][1] ~= "shared" then return "what object " .. i .. " shares" end
  end
end)

local Opener = {
  __name = "Opener",
  __fzpack = function(self) return { self.n, self.shared } end,
  __fzunpack = function(plain)
    collect()
    made = fill(fresh_table)
    local again = fz.unpack(fz.pack { plain[1], plain[2] })
    return { n = again[1], shared = plain[2], copy = again[2] }
  end,
}
fz.register_class("routes.Opener", Opener)

case("unpackers that collect, pack and unpack", function()
  local shared = { ("shared"):rep(20) }
  local value = { shared }
  for i = 2, 9 do value[i] = setmetatable({ shared = shared, n = i }, Opener) end
  return value
end, function(value)
  for i = 2, 9 do
    local v = value[i]
    if v.n ~= i or v.shared ~= value[1] or v.copy[1] ~= value[1][1] then return "object " .. i end
  end
end)

local Nest = class("Nest", function(self)
  collect()
  return { self.inner, self.shared, ("n"):rep(40) .. self.depth }
end)

case("packers in packers, below the depth limit", function()
  local shared, value = { 7 }, { "end" }
  for depth = 1, 30 do
    for _ = 1, 20 do value = { value } end
    value = setmetatable({ inner = value, shared = shared, depth = depth }, Nest)
  end
  return { value, shared }
end, function(value)
  local at = value[1]
  for depth = 30, 1, -1 do
    if at[2] ~= value[2] then return "shared at depth " .. depth end
    if at[3] ~= ("n"):rep(40) .. depth then return "text at depth " .. depth end
    at = at[1]
    for _ = 1, 20 do at = at[1] end
  end
  return at[1] ~= "end" and "the end" or nil
end)

local Point = { __name = "Point" }
Point.__index = Point
function Point.new(x) return setmetatable({ x = x }, Point) end
function Point:double() return Point.new(self.x * 2) end
fz.register_class("routes.Point", Point)

case("a class by its name", function()
  return { Point, Point.new(3), { Point }, function(x) return Point.new(x) end }
end, function(value)
  if value[1] ~= Point or value[3][1] ~= Point then return "the class" end
  if getmetatable(value[2]) ~= Point or value[2]:double().x ~= 6 then return "the object" end
  local p = value[4](4)
  if getmetatable(p) ~= Point or p:double().x ~= 8 then return "what the function makes" end
end)

local null = fz.register_value("routes.null", setmetatable({}, { __name = "null" }))
local bare = fz.register_value("routes.bare", {})
local light = fz.unpack "\1\0\1\xdd\4"  -- a light userdata that is NULL

case("values by their names", function()
  return { null, bare, { null, [bare] = null }, light, { light }, function() return null, bare end }
end, function(value)
  if value[1] ~= null or value[2] ~= bare or value[3][1] ~= null then return "a value" end
  if value[3][bare] ~= null then return "a key" end
  if value[4] ~= light or value[5][1] ~= light then return "NULL" end
  local a, b = value[6]()
  if a ~= null or b ~= bare then return "an upvalue" end
end)

-- Modules like inspect, middleclass and argparse: tables with a metatable, and no C functions.
local callable = setmetatable({}, { __call = function(_, x) return "<" .. x .. ">" end })
local functional = { name = "functional", twice = function(x) return x * 2 end }
package.loaded["routes.callable"] = callable
package.loaded["routes.functional"] = functional
package.loaded["routes.alone"] = function() return callable end

case("modules by their names", function()
  local inspect, alone = callable, require "routes.alone"
  return { callable, functional, { functional }, alone, string,
    function(x) return inspect(functional.twice(x)), inspect, alone end }
end, function(value)
  if value[1] ~= callable or value[2] ~= functional or value[3][1] ~= functional then
    return "a module"
  end
  if value[4] ~= require "routes.alone" or value[5] ~= string then return "another module" end
  local text, inspect, alone = value[6](4)
  if text ~= "<8>" or inspect ~= callable or alone ~= value[4] then return "an upvalue" end
end)

case("shared references and cycles with long texts", function()
  local long = ("long"):rep(20000)
  local value = { long, { long }, Point.new(1), list = {} }
  value.self, value.list[1], value[Point.new(2)] = value, value, value
  for i = 2, 300 do value.list[i] = { value[3], long:sub(1, i) } end
  return value
end, function(value)
  if value.self ~= value or value.list[1] ~= value then return "a cycle" end
  if value[1] ~= ("long"):rep(20000) or value[2][1] ~= value[1] then return "a text" end
  for i = 2, 300 do
    if value.list[i][1] ~= value[3] or value.list[i][2] ~= value[1]:sub(1, i) then
      return "element " .. i
    end
  end
end)

local Raiser = class("Raiser", function(self)
  self.home.a = nil
  collect()
  error("the packer refuses", 0)
end)

local Refuser = {
  __name = "Refuser",
  __fzpack = function(self) return self.plain end,
  __fzunpack = function() error("the unpacker refuses", 0) end,
}
fz.register_class("routes.Refuser", Refuser)

local refused = {}

function refused.packer()
  local home = { a = fill(fresh_table) }
  return { "the packer refuses", home, setmetatable({ home = home }, Raiser) }
end

function refused.unpacker()
  return { "the unpacker refuses", setmetatable({ plain = fill(fresh_text) }, Refuser), {} }
end

return { cases = cases, refused = refused, class = class, collect = collect }
