-- Values as bytes and back: fz.pack, fz.unpack, fz.register_class.
local fz = require "fzlua"

local T = {}

local function copy(...)
  return fz.unpack(fz.pack(...))
end

local function copy_functions(...)
  return fz.unpack(fz.pack(...), { functions = true })
end

-- Whether two values have equal contents; 1 and 1.0 differ. Shared references are not compared.
local function same(a, b)
  if math.type(a) ~= math.type(b) then return false end
  if type(a) ~= "table" then return a == b or (a ~= a and b ~= b) end
  if type(b) ~= "table" then return false end
  for k, v in next, a do if not same(v, rawget(b, k)) then return false end end
  for k in next, b do if rawget(a, k) == nil then return false end end
  return true
end

local function fails(kind, text, f, ...)
  local ok, e = pcall(f, ...)
  assert(not ok, "no error")
  assert(type(e) == "table" and e.kind == kind, tostring(e))
  assert(e.message:find(text, 1, true), e.message)
  return e
end

function T.scalars_keep_their_kind()
  local list = { true, false, 0, 1, -1, 127, 128, -128, -129, 255, 32767, 32768, -32768,
    -32769, 1 << 31, (1 << 31) - 1, -(1 << 31), 1 << 32, math.maxinteger, math.mininteger,
    0.0, 1.0, -1.5, 1e300, 5e-324, math.huge, -math.huge, 0 / 0, 2 ^ 53, "", "a", "\0\255" }
  for _, v in ipairs(list) do
    assert(same(v, copy(v)), tostring(v))
    assert(same({ v, v, v, v, v, x = v }, copy({ v, v, v, v, v, x = v })), tostring(v))
  end
  assert(1 / copy(-0.0) == -math.huge)
  assert(1 / copy({ -0.0, 1.0, 2.0, 3.0 })[1] == -math.huge)
end

function T.nils_are_counted()
  assert(select("#", copy()) == 0)
  assert(select("#", copy(nil)) == 1)
  assert(select("#", copy(nil, 1, nil)) == 3)
end

function T.strings_of_every_length()
  for _, n in ipairs { 0, 1, 63, 64, 255, 256, 4095, 4096, 65535, 65536, 1 << 20 } do
    local s = ("\0x\xff"):rep(n // 3 + 1):sub(1, n)
    local a, b, c = copy(s, s, { s, s })
    assert(a == s and b == s and c[1] == s and c[2] == s)
  end
end

function T.strings_repeat_by_number()
  local list = {}
  for i = 1, 1000 do list[i] = { ["key" .. i % 300] = "value" .. i % 299, name = "x" } end
  assert(same(list, copy(list)))
  assert(same(list, copy(list, list)))
  local long = ("long"):rep(5000)
  assert(#fz.pack(long, long, long) < #long + 100)
end

function T.runs_of_numbers_break_anywhere()
  for n = 0, 40 do
    for width = 0, 62, 7 do
      local t = {}
      for i = 1, n do t[i] = (i % 2 == 0 and 1 or -1) * ((1 << width) - i) end
      assert(same(t, copy(t)))
      if n > 3 then
        t[n // 2] = "break"
        t[n // 2 + 1] = 1.5
        assert(same(t, copy(t)))
      end
    end
  end
  local t = {}
  for i = 1, 200000 do t[i] = i end
  assert(same(t, copy(t)))
  for i = 1, 200000 do t[i] = i / 2 end
  assert(same(t, copy(t)))
  for i = 1, 1000 do t[i] = i % 2 == 0 and i or i + 0.0 end
  assert(same(t, copy(t)))
end

function T.keys_in_the_hash_part_are_not_lost()
  local t = { 10, 20, 30, x = 1, y = 2, z = 3 }
  t[4] = 40
  assert(same(t, copy(t)))
  for i = 5, 50 do
    t[i] = i * 10
    t["k" .. i] = i
    assert(same(t, copy(t)))
  end
  for i = 50, 1, -3 do
    t[i] = nil
    assert(same(t, copy(t)))
  end
end

function T.arrays_filled_backwards()
  for _, n in ipairs { 1, 2, 3, 4, 5, 9, 33, 100 } do
    local t = {}
    for i = n, 1, -1 do t[i] = i end
    assert(same(t, copy(t)))
    t.n = n
    assert(same(t, copy(t)))
  end
end

function T.holes_stay_holes()
  local t = { 1, nil, 3, nil, nil, 6, "a", nil, 9 }
  assert(same(t, copy(t)))
  t = table.pack(nil, nil, 3)
  assert(same(t, copy(t)) and copy(t).n == 3)
end

function T.far_borders_cost_nothing()
  local t = {}
  for i = 0, 62 do t[1 << i] = i end
  t[1 << 62] = true
  local s = fz.pack(t)
  assert(#s < 2000, #s)
  assert(same(t, fz.unpack(s)))
end

function T.every_kind_of_key()
  local t = { [1.5] = "f", [true] = "t", [false] = "f", [-1] = 1, [0] = 0, [1 << 40] = 2,
    [""] = "e", ["a b"] = 1, [math.huge] = 3 }
  assert(same(t, copy(t)))
  local k = { "key" }
  local c = copy({ [k] = k })
  local key, value = next(c)
  assert(key == value and key[1] == "key")
end

function T.tables_of_255_pairs_and_more()
  for _, n in ipairs { 1, 253, 254, 255, 256, 257, 1000 } do
    local t = { 1, 2, 3, { x = 1 } }
    for i = 1, n do t["k" .. i] = { i, n = "v" .. i } end
    assert(same(t, copy(t)), n)
  end
end

function T.shared_references_and_cycles()
  local shared = { 1 }
  local a, b = copy({ shared, shared }, { x = shared })
  assert(a[1] == a[2] and b.x == a[1] and a[1][1] == 1)
  local t = { name = "loop" }
  t.self, t[1], t[t] = t, { t }, true
  local c = copy(t)
  assert(c.self == c and c[1][1] == c and c[c] == true and c ~= t)
end

function T.a_million_levels()
  local t = {}
  local at = t
  for i = 1, 1000000 do
    at[1] = {}
    at = at[1]
    if i % 100000 == 0 then at.mark = t end
  end
  local c = copy(t)
  local n, top = 0, c
  while c[1] do
    c, n = c[1], n + 1
    if n % 100000 == 0 then assert(c.mark == top) end
  end
  assert(n == 1000000)
end

function T.wide_tables_at_the_depth_limit()
  local t = {}
  local at = t
  for _ = 1, 185 do at[1] = {} at = at[1] end
  for i = 1, 20 do
    at[i] = { i }
    local deep = at[i]
    for j = 1, 10 do deep.x = { j, up = at } deep = deep.x end
  end
  local c = copy(t)
  for _ = 1, 185 do c = c[1] end
  for i = 1, 20 do
    assert(c[i][1] == i)
    local deep = c[i]
    for j = 1, 10 do
      deep = deep.x
      assert(deep[1] == j and deep.up == c)
    end
  end
end

function T.metamethods_of_plain_tables_are_not_called()
  local function never() error("called") end
  local mt = { __index = never, __newindex = never, __pairs = never, __len = never,
    __metatable = false, __gc = nil, __eq = never }
  local t = setmetatable({ 1, 2, x = 3 }, mt)
  local c = copy({ t })[1]
  assert(getmetatable(c) == nil and c[1] == 1 and c[2] == 2 and c.x == 3)
end

function T.functions_bring_their_upvalues()
  local n, list = 10, { 1, 2 }
  local function add(x) n = n + x list[#list + 1] = n return n end
  local f = copy_functions(add)
  assert(f(1) == 11 and f(1) == 12 and n == 10 and #list == 2)
end

function T.upvalues_stay_shared_in_one_message()
  local n = 0
  local function inc() n = n + 1 return n end
  local function get() return n end
  local i, t = copy_functions(inc, { get = get, inc = inc })
  i()
  t.inc()
  assert(t.get() == 2 and n == 0 and t.inc == i)
end

function T.recursive_functions()
  local function fact(n) return n < 2 and 1 or n * fact(n - 1) end
  local even, odd
  function even(n) return n == 0 or odd(n - 1) end
  function odd(n) return n ~= 0 and even(n - 1) end
  local f, e, o = copy_functions(fact, even, odd)
  assert(f(10) == 3628800 and e(10) and o(7) and not e(7))
end

function T.globals_are_the_receivers()
  local f = copy_functions(function() return _ENV end)
  assert(f() == _G)
  local a, b = copy_functions({ _G }, _G)
  assert(a[1] == _G and b == _G)
  local env = { y = 5 }
  local g = load("return y", "=g", "t", env)
  assert(copy_functions(g)() == 5)
end

function T.c_functions_go_by_name()
  local a, b, c = copy_functions(print, string.format, { table.insert, table.insert })
  assert(a == print and b == string.format and c[1] == table.insert and c[2] == table.insert)
  fails("unsendable", ".f: a C function that no loaded module has cannot be sent", fz.pack,
    { f = io.stdout.write })
end

function T.library_modules_in_upvalues_go_by_name()
  local str, m = string, math
  local f, t = copy_functions(function() return str, m end, { m })
  local s, k = f()
  assert(s == string and k == math and t[1] == math)
end

function T.functions_are_refused_unless_trusted()
  for _, v in ipairs { print, function() end, _G, { deep = { print } } } do
    local s = fz.pack(v)
    fails("error", "functions are not allowed", fz.unpack, s)
    fails("error", "functions are not allowed", fz.unpack, s, {})
    fails("error", "functions are not allowed", fz.unpack, s, { functions = false })
  end
end

function T.standard_files_are_the_receivers()
  local i, o, e = copy(io.stdin, io.stdout, { io.stderr })
  assert(i == io.stdin and o == io.stdout and e[1] == io.stderr)
end

function T.unsendable_values_name_their_path()
  local co = coroutine.create(print)
  local f <close> = assert(io.open("/dev/null"))
  fails("unsendable", ".rows[3].file: a FILE* cannot be sent", fz.pack,
    { rows = { 1, 2, { file = f } } })
  local e = fails("unsendable", "a coroutine cannot be sent", fz.pack, co)
  assert(e.message == "a coroutine cannot be sent")
  e = fails("unsendable", "", fz.pack, 1, co)
  assert(e.message == "value 2: a coroutine cannot be sent" and e.value == 2)
  local function path(want, v)
    local err = fails("unsendable", want, fz.pack, v)
    assert(err.message == want .. ": a coroutine cannot be sent", err.message)
  end
  path('["a b"]', { ["a b"] = co })
  path('.x["1a"]', { x = { ["1a"] = co } })
  path('["q\\"\\000"]', { ['q"\0'] = co })
  path("[1.5][true]", { [1.5] = { [true] = co } })
  path("[-3]", { [-3] = co })
  path("<key>", { [co] = 1 })
  path(".t<key>", { t = { [co] = 1 } })
  path("[a table]", { [{}] = co })
  path(".f<upvalue co>", { f = function() return co end })
  path("[2]", { 1, co })
end

function T.paths_below_the_depth_limit_are_cut()
  local t = { co = coroutine.create(print) }
  for _ = 1, 300 do t = { x = t } end
  local e = fails("unsendable", ".co: a coroutine cannot be sent", fz.pack, t)
  assert(e.message:sub(1, 5) == "....x", e.message)
end

function T.registered_classes_keep_their_metatable()
  local Point = { __name = "Point" }
  Point.__index = Point
  function Point:sum() return self.x + self.y end
  assert(fz.register_class("test.Point", Point) == Point)
  local p = setmetatable({ x = 1, y = 2 }, Point)
  local a, b = copy(p, { p, p })
  assert(getmetatable(a) == Point and a:sum() == 3 and b[1] == a and b[2] == a)
  local deep = p
  for _ = 1, 500 do deep = { setmetatable({ x = 3, y = deep }, Point) } end
  local c = copy(deep)
  for _ = 1, 500 do
    assert(getmetatable(c[1]) == Point and c[1].x == 3)
    c = c[1].y
  end
  assert(c:sum() == 3)
end

function T.a_name_moves_to_the_metatable_registered_last()
  local old, new = {}, {}
  fz.register_class("test.Moved", old)
  local s = fz.pack(setmetatable({}, old))
  fz.register_class("test.Moved", new)
  assert(getmetatable(fz.unpack(s)) == new)
  assert(getmetatable(copy(setmetatable({}, old))) == nil)
end

function T.classes_may_pack_themselves()
  local Set = {}
  function Set.__fzpack(self)
    local list = {}
    for k in pairs(self.items) do list[#list + 1] = k end
    table.sort(list)
    return list
  end
  function Set.__fzunpack(list)
    local items = {}
    for _, k in ipairs(list) do items[k] = true end
    return setmetatable({ items = items }, Set)
  end
  fz.register_class("test.Set", Set)
  local s = setmetatable({ items = { a = true, b = true } }, Set)
  local a, b = copy(s, { s })
  assert(getmetatable(a) == Set and a.items.a and a.items.b and b[1] == a)
  local nested = s
  for _ = 1, 150 do nested = setmetatable({ items = { [nested] = true } }, Set) end
  Set.__fzpack = function(self) return { (next(self.items)) } end
  local c = copy(nested)
  for _ = 1, 150 do c = next(c.items) end
  assert(c.items.a or c.items.b)
end

function T.packed_objects_are_whole_before_unpacking()
  local Deep = {}
  function Deep.__fzpack(self) return self.list end
  function Deep.__fzunpack(list)
    local n, at = 0, list
    while at[1] do at, n = at[1], n + 1 end
    return setmetatable({ n = n, list = list }, Deep)
  end
  fz.register_class("test.Deep", Deep)
  local list = {}
  for _ = 1, 1000 do list = { list } end
  local outer = {}
  local at = outer
  for _ = 1, 300 do at[1] = {} at[2] = setmetatable({ list = list }, Deep) at = at[1] end
  local c = copy(outer)
  assert(c[2].n == 1000)
  for _ = 1, 299 do c = c[1] end
  assert(c[2].n == 1000)
end

function T.too_deep_nests_of_objects_are_refused()
  local Nest = { __fzpack = function(self) return { self.inner } end,
    __fzunpack = function(t) return t end }
  fz.register_class("test.Nest", Nest)
  local t = {}
  for _ = 1, 5000 do t = setmetatable({ inner = t }, Nest) end
  fails("unsendable", "nested this deep", fz.pack, t)
  local f = function() end
  for _ = 1, 5000 do
    local g = f
    f = function() return g end
  end
  fails("unsendable", "nested this deep", fz.pack, f)
end

function T.an_object_inside_its_own_packed_form_is_refused()
  local Self = { __fzpack = function(self) return { self } end }
  fz.register_class("test.Self", Self)
  fails("unsendable", "inside its own __fzpack", fz.pack, setmetatable({}, Self))
end

function T.errors_in_packers_pass_on_with_context()
  local Bad = { __fzpack = function() error("no way", 0) end }
  fz.register_class("test.Bad", Bad)
  local bad = setmetatable({}, Bad)
  local e = fails("error", ".a[1]: __fzpack of class 'test.Bad': no way", fz.pack, { a = { bad } })
  assert(e.cause == "no way")
  Bad.__fzpack = function() return { co = coroutine.create(print) } end
  fails("unsendable", ".a<packed test.Bad>.co: a coroutine cannot be sent", fz.pack, { a = bad })
  Bad.__fzpack = function() return 1 end
  local s = fz.pack(bad)
  fails("error", "a class without __fzunpack", fz.unpack, s)
  Bad.__fzunpack = function() error({}) end
  fails("error", "__fzunpack of class 'test.Bad'", fz.unpack, s)
  Bad.__fzunpack = function() end
  fails("error", "returned nil", fz.unpack, s)
  assert(copy(1) == 1)
end

function T.packers_may_pack()
  local Box = {}
  function Box.__fzpack(self) return fz.pack(self.v, self.v) end
  function Box.__fzunpack(s)
    local a, b = fz.unpack(s)
    assert(a == b)
    return setmetatable({ v = a }, Box)
  end
  fz.register_class("test.Box", Box)
  local shared = { 7 }
  local box = setmetatable({ v = setmetatable({ v = shared }, Box) }, Box)
  local a, b = copy({ shared, box, box, shared }, "shared")
  assert(a[1] == a[4] and a[2] == a[3] and a[2].v.v[1] == 7 and b == "shared")
end

function T.temporary_plain_values_stay_alive()
  local Temp = {}
  function Temp.__fzpack(self)
    collectgarbage()
    return { "temporary " .. self.i, { self.i } }
  end
  function Temp.__fzunpack(t) return setmetatable({ i = t[2][1], text = t[1] }, Temp) end
  fz.register_class("test.Temp", Temp)
  local list = {}
  for i = 1, 50 do list[i] = setmetatable({ i = i }, Temp) end
  local c = copy(list)
  for i = 1, 50 do assert(c[i].i == i and c[i].text == "temporary " .. i) end
end

function T.bad_bytes_raise()
  fails("error", "not a packed message", fz.unpack, "")
  fails("error", "an unknown version", fz.unpack, "\255")
  local s = fz.pack({ 1, 2, { x = "abc" } }, "abc", 1.5)
  for i = 0, #s - 1 do
    local ok, e = pcall(fz.unpack, s:sub(1, i))
    assert(not ok and e.kind == "error")
  end
  fails("error", "bytes after the last value", fz.unpack, s .. "x")
end

function T.wrong_arguments_raise_a_text_at_the_caller()
  local function wrong(text, f, ...)
    local ok, e = pcall(f, ...)
    assert(not ok and type(e) == "string" and e:find(text, 1, true), tostring(e))
  end
  wrong("bad argument #1", fz.register_class)
  wrong("bad argument #1", fz.register_class, {}, {})
  wrong("bad argument #1", fz.register_class, "", {})
  wrong("bad argument #2", fz.register_class, "test.None")
  wrong("bad argument #2", fz.register_class, "test.None", "x")
  wrong("bad argument #1", fz.unpack)
  wrong("bad argument #1", fz.unpack, {})
  wrong("bad argument #2", fz.unpack, "", 1)
end

function T.big_messages_leave_the_collector_as_it_was()
  local t = {}
  for i = 1, 50000 do t[i] = { i } end
  local s = fz.pack(t)
  fz.unpack(s)
  assert(collectgarbage("isrunning"))
  pcall(fz.unpack, s:sub(1, -2))
  assert(collectgarbage("isrunning"))
  collectgarbage("stop")
  fz.unpack(s)
  assert(not collectgarbage("isrunning"))
  collectgarbage("restart")
end

return T
