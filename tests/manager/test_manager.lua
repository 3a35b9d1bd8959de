-- test_manager.lua - fz.manager: tables in a server process, used from any process of the run.

local t = ...

local tests = {}

local function server_of(m)
  return math.tointeger(tonumber(tostring(m):match "process (%d+)"))
end

local function sorted_keys(proxy)
  local keys = {}
  for key in pairs(proxy) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

tests["a dict holds values of all kinds"] = function()
  local m <close> = fz.manager()
  local d = m:dict { x = 5, [1] = "one", [true] = false }
  t.equal({ d.x, d[1], d[true], d.nothing, d[2] }, { 5, "one", false })
  for _, value in ipairs { 1.5, "", ("x"):rep(1 << 20), math.huge, false, math.mininteger } do
    d.v = value
    t.equal(d.v, value)
  end
  t.equal(#d, 4)
  d.v = nil
  t.equal({ d.v, #d }, { nil, 3 })
  d.f = function(a) return a + 1 end
  t.equal(d.f(4), 5)
  d.f = print
  assert(d.f == print)
end

tests["nested tables are proxies of what is in the server"] = function()
  local m <close> = fz.manager()
  local d = m:dict { a = { b = { c = 1 } }, list = { 1, 2 } }
  d.a.b.c = 2
  t.equal(d.a.b.c, 2)
  d.a = {}
  d.a.b = 1
  t.equal(d.a.b, 1)
  local a = d.a
  assert(a == d.a and a ~= d.list and a ~= m:dict())
  a.x = { y = 1 }
  t.equal(d.a.x.y, 1)
  d.list:append(3)
  t.equal({ #d.list, d.list[3], d.list.append ~= nil, d.a.append }, { 3, 3, true })
  t.equal(d:copy(), { a = { b = 1, x = { y = 1 } }, list = { 1, 2, 3 } })
  assert(getmetatable(d:copy().a) == nil)
end

tests["an empty table is a dict, a list is one by its values and when it is emptied"] = function()
  local m <close> = fz.manager()
  local d = m:dict { a = {} }
  d.a[#d.a + 1] = 1
  d.a[#d.a + 1] = 2
  d.a:append(3)
  t.equal(d.a:copy(), { 1, 2, 3 })
  local old = d.a
  for _ = 1, 3 do d.a:pop() end
  d.a:append(4)
  t.equal({ #old, old[1] }, { 1, 4 })
  d.b = { 1, 2, x = 3 }
  t.equal({ d.b.append, #d.b }, { nil, 3 })
  d.b.x = nil
  d.b:append(3)
  t.equal(d.b:copy(), { 1, 2, 3 })
  -- A dict that became a list becomes a dict again.
  d.c = {}
  local c = d.c
  c[1] = 1
  t.match(d.c, "list")
  c.name = "c"
  t.match(d.c, "dict")
  c.name = nil
  t.match(d.c, "list")
  c[2], c[3] = 2, 3
  c[2] = nil
  t.match(d.c, "dict")
end

tests["what was made as a dict or a list stays one"] = function()
  local m <close> = fz.manager()
  local d = m:dict()
  d.list, d.dict, d.space = m:list(), m:dict { 1, 2 }, m:namespace()
  d.list:append(1)
  t.equal({ d.list:copy(), d.dict:get(2), #d.dict }, { { 1 }, 2, 2 })
  d.space.x = 5
  t.match(d.space, "namespace")
  t.equal(d:copy(), { list = { 1 }, dict = { 1, 2 }, space = { x = 5 } })
end

tests["get, set, update and incr of a dict"] = function()
  local m <close> = fz.manager()
  local d = m:dict { get = "taken", n = 5 }
  t.equal({ d:get "get", d:get "n", d:get "nothing" }, { "taken", 5 })
  d:set("update", 1)
  d.copy = 2
  t.equal({ d:get "update", d:get "copy", type(d.update), type(d.copy) },
    { 1, 2, "function", "function" })
  t.equal({ d:incr "n", d:incr("n", 10), d:incr("n", -0.5), d:incr "new", d:incr("more", 3) },
    { 6, 16, 15.5, 1, 3 })
  t.equal({ d.n, d.new }, { 15.5, 1 })
  t.equal(d:update("n", function(n) return n * 2 end), 31.0)
  t.equal(d:update("x", function(x) return x == nil and "first" end), "first")
  t.equal({ d.n, d.x }, { 31.0, "first" })
  local rows = d:update("rows", function() return { 1, 2 } end)
  rows:append(3)
  d:update("rows", function(list)
    list[#list + 1] = 4
    return list
  end)
  t.equal(d.rows:copy(), { 1, 2, 3, 4 })
  t.equal(d:update("rows", function() end), nil)
  t.equal(d.rows, nil)
end

tests["an update has its upvalues, and proxies among them are the tables themselves"] = function()
  local m <close> = fz.manager()
  local d, other = m:dict(), m:dict { x = 4 }
  local n = 3
  t.equal(d:update("a", function() return n * other.x end), 12)
  d:update("a", function()
    other.y = "seen"
    return other
  end)
  t.equal({ other.y, d.a.x, d.a == other }, { "seen", 4, true })
end

tests["pairs goes over a snapshot"] = function()
  local m <close> = fz.manager()
  local d = m:dict { a = 1, b = 2, c = { 3 } }
  t.equal(sorted_keys(d), { "a", "b", "c" })
  local seen = {}
  for key, value in pairs(d) do
    seen[key] = value
    d[key .. key] = 1
    d.a, d.b = nil, nil
  end
  t.equal({ seen.a, seen.b, seen.c[1] }, { 1, 2, 3 })
  t.equal(#d, 4)
  local l = m:list { "x", { "y" }, "z" }
  local got = {}
  for i, value in pairs(l) do got[#got + 1] = { i, i == 2 and value[1] or value } end
  t.equal(got, { { 1, "x" }, { 2, "y" }, { 3, "z" } })
  for i, value in ipairs(l) do got[i] = i == 2 and value[1] or value end
  t.equal(got, { "x", "y", "z" })
  for _ in pairs(m:dict()) do error "it is empty" end
end

tests["lists are changed at both ends and in between"] = function()
  local m <close> = fz.manager()
  local l = m:list { "b" }
  l:append "d"
  l:insert(1, "a")
  l:insert(3, "c")
  l:insert(5, "e")
  t.equal(l:copy(), { "a", "b", "c", "d", "e" })
  l[2] = "B"
  l[6] = "f"
  t.equal({ l:remove(3), l:pop(), #l, l[0], l[5], l.x }, { "c", "f", 4 })
  l[4] = nil
  t.equal(l:copy(), { "a", "B", "d" })
  t.equal({ l:remove(1), l:pop(), l:pop(), l:pop(), #l }, { "a", "d", "B", nil, 0 })
end

tests["sort is done in the server, and changes nothing when it fails"] = function()
  local m <close> = fz.manager()
  local l = m:list { 3, 1, 2 }
  l:sort()
  t.equal(l:copy(), { 1, 2, 3 })
  l:sort(function(a, b) return a > b end)
  t.equal(l:copy(), { 3, 2, 1 })
  l = m:list { { n = 2 }, { n = 1 } }
  local first = l[2]
  l:sort(function(a, b) return a.n < b.n end)
  assert(l[1] == first)
  l:append "no table"
  local e = t.fails("error", l.sort, l, function(a, b) return a.n.n < b.n.n end)
  t.match(e, "test_manager.lua", "attempt to index a nil value (field 'n')", "stack traceback")
  t.equal({ #l, l[1] == first, l[3] }, { 3, true, "no table" })
end

tests["what leaves a list is a plain copy, or the proxy that it was"] = function()
  local m <close> = fz.manager()
  local d = m:dict { x = 1 }
  local l = m:list { { job = { 1 } }, d }
  local got = l:pop()
  assert(got == d and got.x == 1)
  t.equal(l:remove(1), { job = { 1 } })
end

tests["a namespace has attributes"] = function()
  local m <close> = fz.manager()
  local n = m:namespace { x = 1 }
  n.y = { 1, 2 }
  n.get = "no method"
  t.equal({ n.x, n.y[2], n.get, n.z, #n }, { 1, 2, "no method", nil, 3 })
  t.equal(n:copy(), { x = 1, y = { 1, 2 }, get = "no method" })
  t.match(t.wrong(function() n.copy = 1 end), "cannot set 'copy' of a namespace")
end

tests["proxies in proxies are the same tables, cycles too"] = function()
  local m <close> = fz.manager()
  local a, b = m:dict(), m:list { 1 }
  a.b, a.self = b, a
  b:append(a)
  a.b:append(3)
  assert(b[2] == a and a.self.self == a and a.b == b)
  local copy = a:copy()
  assert(copy.self == copy and copy.b[2] == copy and copy.b[3] == 3)
  a.keys = { [b] = "list" }
  t.equal(a.keys[b], "list")
  -- A dict that is made from a proxy is another dict.
  local c = m:dict(a)
  c.only = 1
  t.equal({ a.only, c.b == b, #m:list(b) }, { nil, true, 3 })
  t.match(t.fails("error", m.list, m, a), "the table of the proxy is not a sequence")
end

tests["objects of classes, handles and proxies of others are values"] = function()
  local Point = { __name = "Point" }
  Point.__index = Point
  fz.register_class("test_manager.Point", Point)
  local m <close> = fz.manager()
  local other <close> = fz.manager()
  local d = m:dict { p = setmetatable({ x = 1 }, Point), lock = m:lock(), q = m:queue(1) }
  assert(getmetatable(d.p) == Point and d.p.x == 1)
  d.o = other:dict { y = 2 }
  d.o.y = d.o.y + 1
  t.equal(d.o.y, 3)
  d.v = m:value("i", 4)
  t.elsewhere(function()
    d.q:put "through"
    d.v:add(1)
    assert(d.lock:acquire())
    d.lock:release()
  end)
  t.equal({ d.q:get(30), d.v.value, d.q:full() }, { "through", 5, false })
end

tests["what the server cannot make is an error, not silence"] = function()
  local m <close> = fz.manager()
  local d = m:dict { a = 1 }
  local Late = { __fzpack = function(self) return self.x end, __fzunpack = error }
  fz.register_class("test_manager.Late", Late)
  local late = setmetatable({ x = 1 }, Late)
  t.match(t.fails("error", function() d.a = late end),
    "class 'test_manager.Late' is not registered here")
  t.equal(d.a, 1)
end

tests["what cannot be sent changes nothing"] = function()
  local m <close> = fz.manager()
  local d, l = m:dict { a = 1 }, m:list { 1 }
  local co = coroutine.create(print)
  t.match(t.fails("unsendable", function() d.a = co end), "value: a coroutine cannot be sent")
  t.match(t.fails("unsendable", function() d.a = { rows = { 1, { f = co } } } end),
    "value: .rows[2].f: a coroutine cannot be sent")
  t.match(t.fails("unsendable", function() d[co] = 1 end), "key: a coroutine")
  t.match(t.fails("unsendable", function() return d[co] end), "key: a coroutine")
  t.match(t.fails("unsendable", d.update, d, "a", function() return co end), "function: ",
    "co", "a coroutine cannot be sent")
  t.match(t.fails("unsendable", l.append, l, co), "value: a coroutine")
  t.match(t.fails("unsendable", l.insert, l, 1, co), "value: a coroutine")
  t.match(t.fails("unsendable", m.dict, m, { co }), "table: [1]: a coroutine")
  local e = t.fails("unsendable", d.update, d, "a", function() return coroutine.create(print) end)
  t.match(e, "result: a coroutine cannot be sent")
  t.fails("unsendable", d.update, d, "a", function() return { x = coroutine.create(print) } end)
  t.equal({ d.a, #d, #l, e.value }, { 1, 1, 1 })
end

tests["a proxy cannot be packed, a manager cannot be sent"] = function()
  local m <close> = fz.manager()
  t.match(t.fails("unsendable", fz.pack, { p = m:dict() }), ".p", "which belongs to one run")
  local q = fz.queue()
  t.match(t.fails("unsendable", q.put, q, { m }), "a manager cannot be sent, but its proxies can")
end

tests["bytes that say they are a proxy are none"] = function()
  local Fake = { __fzpack = function(self) return self.packed end }
  fz.register_class("fzlua.Prox1", Fake) -- as long as "fzlua.Proxy" below
  local function forged(packed)
    local bytes = fz.pack(setmetatable({ packed = packed }, Fake))
    return (bytes:gsub("fzlua.Prox1", "fzlua.Proxy"))
  end
  local m <close> = fz.manager()
  local d = m:dict { x = 1 }
  for _, packed in ipairs {
    5, {}, { 1, 2, 3, 4, "dict", 1 }, { 1, 2, io.stdout, io.stdout, "dict", 1 },
  } do
    t.match(t.fails("error", fz.unpack, forged(packed)), "__fzunpack of class 'fzlua.Proxy'")
  end
  t.equal(d.x, 1)
end

tests["an error in the server has its traceback and cause, and it goes on"] = function()
  local m <close> = fz.manager()
  local d = m:dict { a = 1 }
  local function boom() error { code = 42 } end
  local e = t.fails("error", d.update, d, "a", function() boom() end)
  t.equal({ e.cause.code, e.pid }, { 42, server_of(m) })
  t.match(e.traceback, "in upvalue 'boom'", "test_manager.lua:")
  e = t.fails("error", d.update, d, "a", function(a) return a.b.c end)
  t.match(e, "test_manager.lua:", "attempt to index a number value (local 'a')", "stack traceback")
  e = t.fails("error", d.update, d, "a", function() error(coroutine.create(print)) end)
  t.match(e, "thread")
  t.equal({ e.cause, d.a }, { nil, 1 })
  e = t.fails("error", d.update, d, "a", function()
    error(fz.Error.new { kind = "timeout", message = "inner" })
  end)
  t.equal({ e.cause.kind, e.cause.message, e.message }, { "timeout", "inner", "inner" })
  e = t.fails("error", d.update, d, "a", function()
    local class = { __fzpack = function(self) return self.code end }
    error(setmetatable({ code = 43 }, fz.register_class("only the server's", class)))
  end)
  t.match(e, "{code = 43}", "stack traceback")
  t.equal(e.cause, nil)
  d.text = "five"
  e = t.fails("error", d.incr, d, "text")
  t.equal({ e.message, e.traceback, d.text },
    { "incr needs a number, but the value is a string", nil, "five" })
end

-- A hook in the server checks whether the asking process lives. It must not visit the whole stack.
tests["a deep recursion takes no longer in a server than in the script"] = function()
  local core = require "fzlua.core"
  local function deeper(n) return 1 + deeper(n + 1) end
  local function cpu(...)
    local from = os.clock()
    local ok, e = pcall(...)
    t.equal({ ok, tostring(e):match "stack overflow" }, { false, "stack overflow" })
    return os.clock() - from
  end
  local alone = cpu(deeper, 1)
  local served = cpu(core.work_for, core.member(), deeper, 1)
  assert(served < 10 * alone, ("%g s, and %g s alone"):format(served, alone))
end

tests["memory and stack that a function lacks are its error"] = function()
  local m <close> = fz.manager()
  local d = m:dict { x = 1 }
  local e = t.fails("error", d.update, d, "x", function()
    -- No collection during the recursion: a finalizer would have no stack, and leak.
    local _ <close> = setmetatable({}, { __close = function() collectgarbage "restart" end })
    collectgarbage()
    collectgarbage "stop"
    local function deeper(n) return 1 + deeper(n + 1) end
    return deeper(1)
  end)
  t.match(e, "stack overflow")
  e = t.fails("error", d.update, d, "x", function()
    local mt = {}
    mt.__index = function(self, key) return self[key .. "x"] end
    return setmetatable({}, mt).x
  end)
  t.match(e, "stack overflow")
  if not os.getenv "ASAN_OPTIONS" then
    e = t.fails("memory", d.update, d, "x", function()
      os.execute "prlimit --pid $PPID --as=1000000"
      local list = {} -- a table, because Lua 5.4.0 raises another error if a string is too long
      for i = 1, 1 << 26 do list[i] = i end
      return list
    end)
    t.equal(e.message, "not enough memory")
  end
  t.equal(d.x, 1)
end

tests["an index outside of a list is an error that says so"] = function()
  local m <close> = fz.manager()
  local l = m:list { 1, 2, 3 }
  for _, f in ipairs {
    function() l[5] = 1 end, function() l[0] = 1 end, function() l[4] = nil end,
    function() l:insert(5, 1) end, function() l:insert(0, 1) end, function() l:remove(4) end,
  } do
    t.match(t.fails("error", f), "index ", " is outside of a list of 3")
  end
  t.match(t.fails("error", function() l[2] = nil end), "would leave a hole in a list of 3")
  t.equal(l:copy(), { 1, 2, 3 })
end

tests["wrong arguments raise at the user's line"] = function()
  local m <close> = fz.manager()
  local d, l = m:dict(), m:list()
  for text, f in pairs {
    ["'dict:get' (a key expected, got nil)"] = function() d:get() end,
    ["'dict:set' (a key expected, got "] = function() d:set(0 / 0, 1) end,
    ["'dict[]' (a key expected, got nil)"] = function() d[nil] = 1 end,
    ["#2 to 'dict:update' (function expected, got no value)"] = function() d:update "a" end,
    ["#2 to 'dict:incr' (number expected, got string)"] = function() d:incr("a", "b") end,
    ["'list[]' (an integer expected, got string)"] = function() l.x = 1 end,
    ["'list[]' (an integer expected, got 1.5)"] = function() l[1.5] = 1 end,
    ["'list:append' (value expected)"] = function() l:append(nil) end,
    ["'list:insert' (an integer expected, got nil)"] = function() l:insert() end,
    ["#2 to 'list:insert' (value expected)"] = function() l:insert(1) end,
    ["'list:remove' (an integer expected, got nil)"] = function() l:remove() end,
    ["'list:sort' (function expected, got number)"] = function() l:sort(1) end,
    ["'append' (a list expected: write proxy:append)"] = function() l.append(5) end,
    ["'get' (a dict expected: write proxy:get)"] = function() d.get(l, 1) end,
    ["'copy' (a proxy expected: write proxy:copy)"] = function() d.copy {} end,
    ["'manager:dict' (table expected, got number)"] = function() m:dict(5) end,
    ["'manager:dict' (plain table expected"] = function() m:dict(setmetatable({}, {})) end,
    ["'manager:list' (not a sequence)"] = function() m:list { x = 1 } end,
    ["'dict' (a manager expected: write m:dict)"] = function() m.dict() end,
  } do
    t.match(t.wrong(f), text)
  end
end

return tests
