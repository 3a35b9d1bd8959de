-- fz.manager: tables in a server process, used from any process of the run.

local t = ...
local core = require "fzlua.core"

local tests = {}

local function started(f, ...)
  return fz.process(f, ...):start()
end

-- What f(...) returns in a process of its own.
local function elsewhere(f, ...)
  local p <close> = started(f, ...)
  return p:result()
end

local function server_of(m)
  return math.tointeger(tonumber(tostring(m):match "process (%d+)"))
end

local function sorted_keys(proxy)
  local keys = {}
  for key in pairs(proxy) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- ---- dicts ---------------------------------------------------------------------

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

-- ---- lists, namespaces ------------------------------------------------------------

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

-- ---- values ------------------------------------------------------------------------

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
  -- A dict made of a proxy is another one.
  local c = m:dict(a)
  c.only = 1
  t.equal({ a.only, c.b == b, #m:list(b) }, { nil, true, 3 })
  t.match(t.fails("error", m.list, m, a), "a list needs a sequence")
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
  elsewhere(function()
    d.q:put "through"
    d.v:add(1)
    assert(d.lock:acquire())
    d.lock:release()
  end)
  t.equal({ d.q:get(5), d.v.value, d.q:full() }, { "through", 5, false })
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

tests["a proxy is not for files, a manager for nobody else"] = function()
  local m <close> = fz.manager()
  t.match(t.fails("unsendable", fz.pack, { p = m:dict() }), ".p", "which belongs to one run")
  local q = fz.queue()
  t.match(t.fails("unsendable", q.put, q, { m }), "a manager cannot be sent, but its proxies can")
end

tests["bytes that say they are a proxy are none"] = function()
  local Fake = { __fzpack = function(self) return self.packed end }
  fz.register_class("fzlua.Prox1", Fake) -- a name as long as the real one
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

-- ---- errors ------------------------------------------------------------------------

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
  d.text = "five"
  e = t.fails("error", d.incr, d, "text")
  t.equal({ e.message, e.traceback, d.text },
    { "incr needs a number, but the value is a string", nil, "five" })
end

tests["memory and stack that a function lacks are its error"] = function()
  local m <close> = fz.manager()
  local d = m:dict { x = 1 }
  local e = t.fails("error", d.update, d, "x", function()
    -- A finalizer without stack fails, and what it should free leaks.
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
      return ("x"):rep(1 << 29)
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

tests["wrong arguments are told at the user's line"] = function()
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

-- ---- processes -----------------------------------------------------------------------

tests["four processes count to forty thousand"] = function()
  local m <close> = fz.manager()
  local d = m:dict()
  local list = {}
  for i = 1, 4 do
    list[i] = started(function()
      for _ = 1, 10000 do d:incr "n" end
    end)
  end
  for _, p in ipairs(list) do p:result() end
  t.equal(d.n, 40000)
  for _, p in ipairs(list) do p:join() end
end

tests["what one process does, others see"] = function()
  local q, back = fz.queue(), fz.queue()
  local early <close> = started(function() -- knows nothing of managers
    local d = q:get()
    d.a[#d.a + 1] = 2
    back:put(d.a)
    q:get()
    return d.a:copy(), d == d.self
  end)
  local m <close> = fz.manager()
  local d = m:dict { a = { 1 } }
  d.self = d
  q:put(d)
  local a = back:get()
  assert(a == d.a)
  t.equal(a:copy(), { 1, 2 })
  elsewhere(function() a:append(3) end)
  q:put "go on"
  t.equal({ early:result() }, { { 1, 2, 3 }, true })
  local pool <close> = fz.pool(2)
  pool:map(function(n) d:incr("sum", n) end, t.numbers(100))
  t.equal(d.sum, 5050)
  local made = elsewhere(function() return m:dict { by = "a child" } end)
  t.equal(made.by, "a child")
end

-- A few operations on a dict and a list, by `draw`, here and there.
local function play(dict, list, model, row, draw)
  for step = 1, 200 do
    local what, key = draw(7), "k" .. draw(5)
    if what == 1 then
      dict[key], model[key] = step, step
    elseif what == 2 then
      dict[key], model[key] = nil, nil
    elseif what == 3 then
      model[key] = (model[key] or 0) + 1
      t.equal(dict:incr(key), model[key])
    elseif what == 4 then
      list:append(step)
      row[#row + 1] = step
    elseif what == 5 then
      t.equal(list:pop(), table.remove(row))
    elseif what == 6 then
      local at = draw(#row + 1)
      list:insert(at, step)
      table.insert(row, at, step)
    else
      t.equal({ dict[key], #list }, { model[key], #row })
    end
  end
  t.equal(dict:copy(), model)
  t.equal(list:copy(), row)
end

tests["eight clients do what a model does"] = function()
  local m <close> = fz.manager()
  local all = m:dict()
  local list = {}
  for i = 1, 8 do
    list[i] = started(function()
      all[i] = { dict = {}, list = m:list() }
      play(all[i].dict, all[i].list, {}, {}, math.random)
      all:incr "done"
    end)
  end
  for _, p in ipairs(list) do p:result() end
  t.equal({ all.done, #all }, { 8, 9 })
  for _, p in ipairs(list) do p:join() end
end

tests["two managers are two, also where one is in a process of its own"] = function()
  local m <close> = fz.manager()
  local n <close> = fz.manager()
  local a, b = m:dict { x = 1 }, n:dict { x = 2 }
  assert(a ~= b and server_of(m) ~= server_of(n))
  a.x = 3
  t.equal({ a.x, b.x }, { 3, 2 })
  local p <close> = started(function()
    local inner <close> = fz.manager()
    local c = inner:dict { x = b.x }
    return elsewhere(function() return c:incr("x", a.x) end), server_of(inner)
  end)
  local sum, pid = p:result()
  t.equal(sum, 5)
  p:join()
  t.until_true(function() return not t.is_running(pid) end)
  m:close()
  t.equal(b.x, 2)
end

tests["a manager in a worker and in a run without workers"] = function()
  local function work()
    local m <close> = fz.manager()
    local d = m:dict { x = 1 }
    elsewhere(function() d:incr "x" end)
    return d.x
  end
  local pool <close> = fz.pool(2)
  t.equal(pool:apply(work), 2)
  local here <close> = t.in_this_process()
  local none <close> = fz.pool(2)
  t.equal({ none:apply(work), here ~= nil }, { 2, true })
end

tests["a callback asks while an answer is waited for"] = function()
  local m <close> = fz.manager()
  local d = m:dict()
  local pool <close> = fz.pool(1)
  pool:apply(function() end)
  for _ = 1, 20 do
    local inner
    local result = pool:apply_async(function() return 5 end, {}, {
      callback = function(n) inner = d:incr("inner", n) end,
    })
    d:update("outer", function(n)
      local till = fz.now() + 0.005
      while fz.now() < till do end
      return (n or 0) + 1
    end)
    result:get()
    assert(inner)
  end
  t.equal({ d.outer, d.inner }, { 20, 100 })
end

tests["objects that ask while they are packed"] = function()
  local m <close> = fz.manager()
  local d = m:dict { n = 1 }
  local Asks = { __fzpack = function() return d:incr "n" end }
  Asks.__fzunpack = function(n) return n end
  fz.register_class("test_manager.Asks", Asks)
  local q = fz.queue()
  q:put(setmetatable({}, Asks))
  t.equal(q:get(5), 2)
  -- Not where the engine is being given something.
  local pool <close> = fz.pool(1)
  t.match(t.fails("error", pool.apply, pool, function(x) return x end, setmetatable({}, Asks)),
    "__fzpack of class 'test_manager.Asks'", "cannot do this while a value is packed")
  t.equal({ d.n, pool:apply(function() return d.n end) }, { 2, 2 })
end

tests["queues of clients that have died are used again"] = function()
  local m <close> = fz.manager()
  local d = m:dict()
  for _ = 1, 25 do
    local list = {}
    for i = 1, 8 do list[i] = started(function() return d:incr "n" end) end
    for _, p in ipairs(list) do
      p:result()
      p:join()
    end
  end
  t.equal(d.n, 200)
  assert(m._client.spare:size() > 0)
end

-- ---- ends --------------------------------------------------------------------------

tests["closing ends the server and all use of its proxies"] = function()
  local m = fz.manager()
  local pid = server_of(m)
  local d = m:dict { a = { 1 } }
  local a = d.a
  m:close()
  m:close()
  t.equal(t.is_running(pid), false)
  for _, f in ipairs {
    function() return d.a end, function() d.a = 1 end, function() a:append(1) end,
    function() return #a end, function() return pairs(d) end, function() m:dict() end,
    function() return d:copy() end,
  } do
    t.equal(t.fails("closed", f).message, "the manager is closed")
  end
  t.match(m, "fzlua.Manager (closed)")
  t.match(d, "fzlua.Proxy (dict 1 of manager " .. pid)
  t.equal(elsewhere(function() return select(2, pcall(d.get, d, "a")).kind end), "closed")
end

tests["its end by a scope, by an error and by being collected"] = function()
  local pid
  do
    local m <close> = fz.manager()
    pid = server_of(m)
  end
  t.equal(t.is_running(pid), false)
  pcall(function()
    local m <close> = fz.manager()
    pid = server_of(m)
    error "out"
  end)
  t.equal(t.is_running(pid), false)
  local d = (function()
    local m = fz.manager()
    pid = server_of(m)
    return m:dict { x = 1 }
  end)()
  collectgarbage()
  t.equal(d.x, 1) -- it lives as long as a proxy of its maker's
  d = d and nil
  collectgarbage()
  collectgarbage()
  t.equal({ t.is_running(pid), d }, { false })
end

tests["only its maker can close it"] = function()
  local m <close> = fz.manager()
  local d = m:dict { x = 1 }
  local said = elsewhere(function()
    do local _ <close> = m end
    collectgarbage()
    return select(2, pcall(m.close, m))
  end)
  t.match(said, "cannot be closed here: it belongs to process ")
  t.equal(d.x, 1)
end

tests["who waits while it is closed is told"] = function()
  local m = fz.manager()
  local d, q = m:dict(), fz.queue()
  local p <close> = started(function()
    local ok, e = pcall(d.update, d, "x", function()
      q:put "running"
      while true do end
    end)
    return ok, e.kind
  end)
  q:get()
  m:close()
  t.equal({ p:result() }, { false, "closed" })
end

tests["what nothing holds any more goes away"] = function()
  local m <close> = fz.manager()
  local d = m:dict { a = { b = {} }, kept = {} }
  local a, b, kept = d.a, d.a.b, d.kept
  d.b = b
  d.a, d.kept = nil, nil
  d.other = kept
  d:update("n", function()
    collectgarbage()
    collectgarbage()
  end)
  t.match(t.fails("closed", function() return a.b end), "nothing in the manager refers to it")
  t.fails("closed", function() return #a end)
  b.x, kept.x = 1, 2
  t.equal({ d.b.x, d.other.x }, { 1, 2 })
  -- A proxy of it may still be kept.
  d.gone = a
  t.fails("closed", function() return d.gone.x end)
end

tests["a server that was killed is a crash for all"] = function()
  local m <close> = fz.manager()
  local d, q = m:dict(), fz.queue()
  local p <close> = started(function()
    local ok, e = pcall(d.update, d, "x", function()
      q:put "running"
      while true do end
    end)
    return ok, e.kind, e.message
  end)
  q:get()
  os.execute("kill -9 " .. server_of(m))
  t.equal({ p:result() }, { false, "crash", "the manager's server has died" })
  local e = t.fails("crash", function() return d.x end)
  t.match(e, "the manager's server: ", "SIGKILL")
  t.equal(e.signal, 9)
  t.fails("crash", m.dict, m)
end

tests["a function that ends the server is a crash"] = function()
  local m <close> = fz.manager()
  local d = m:dict()
  t.fails("crash", d.update, d, "x", function() os.exit(3) end)
end

tests["clients that are killed leave the server and others as they were"] = function()
  local m <close> = fz.manager()
  local d = m:dict { n = 0 }
  for round = 1, 10 do
    local list = {}
    for i = 1, 3 do
      list[i] = started(function()
        while true do
          d:incr "n"
          d.rows = { 1, 2, { ("x"):rep(1000 * i) } }
          local _ = d.rows:copy()
        end
      end)
    end
    local before = d.n
    t.until_true(function() return d.n > before + 10 * round end)
    for _, p in ipairs(list) do p:kill() end
    for _, p in ipairs(list) do p:join() end
    t.equal(#d.rows, 3)
  end
  t.equal(d:incr("n", 0), d.n)
end

local Endless = {
  __fzpack = function() return 1 end, __fzunpack = function() while true do end end,
}

-- A client that dies, or is ended by a timeout, while the server runs what it has written.
local FOREVER = {
  a_loop = function(d) d:update("x", function() while true do end end) end,
  a_loop_that_catches = function(d)
    d:update("x", function() while true do pcall(function() while true do end end) end end)
  end,
  a_coroutine = function(d)
    d:update("x", function() return coroutine.wrap(function() while true do end end)() end)
  end,
  a_wait = function(d)
    local q = fz.queue()
    d:update("x", function() return q:get() end)
  end,
  a_comparison = function(d) d.list:sort(function() while true do end end) end,
  an_unpacker = function(d) d.x = setmetatable({}, Endless) end,
  a_tostring = function(d)
    d:update("x", function()
      error(setmetatable({}, { __tostring = function() while true do end end }))
    end)
  end,
}

for name, ask in pairs(FOREVER) do
  tests[("a client that dies in %s holds up no other"):format(name:gsub("_", " "))] = function()
    fz.register_class("test_manager.Endless", Endless)
    local m <close> = fz.manager()
    local d = m:dict { n = 1, list = { 3, 1, 2 } }
    local p = started(function() ask(d) end)
    os.execute "sleep 0.2"
    p:kill()
    p:join()
    t.equal({ d.n, d.list:copy() }, { 1, { 3, 1, 2 } })
    t.fails("timeout", fz.map, ask, { d }, { jobs = 1, timeout = 0.2 })
    t.equal({ d:incr "n", d:update("n", function(n) return n + 1 end) }, { 2, 3 })
  end
end

tests["nothing is left when its owner is killed, nor when the script ends"] = function()
  for _, ending in ipairs { "kill -9 $pid", "wait $pid" } do
    local mark = ("manager-%d"):format(math.random(1 << 30))
    local script = t.file(ending == "wait $pid" and [[
m = fz.manager()
d = m:dict { x = 1 }
print(d.x)]] or [[
m = fz.manager()
d = m:dict { x = 1 }
for _ = 1, 2 do fz.process(function()
  local inner = fz.manager()
  local e = inner:dict()
  while true do d:incr "x" e:incr "y" end
end):start() end
while true do d:incr "x" end]])
    t.equal(t.shell(([[
unset MARK; MARK=%s "$FZLUA" %s >/dev/null 2>&1 </dev/null & pid=$!
sleep 0.3; %s; wait $pid 2>/dev/null
for i in 1 2 3 4 5 6 7 8 9 10; do
  left=$(grep -lz "^MARK=%s\$" /proc/[0-9]*/environ 2>/dev/null | grep -v "/$$/" || true)
  test -z "$left" && break
  sleep 0.1
done
echo "$left"]]):format(mark, script, ending, mark)), "\n")
  end
end

tests["Ctrl-C ends the wait for an answer, and the server can be asked again"] = function()
  local script = t.file [[
local m <close> = fz.manager()
local d, script = m:dict(), fz.current_process().pid
local ok, e = pcall(d.update, d, "x", function()
  os.execute("kill -INT " .. script)
  local till = fz.now() + 0.1
  while fz.now() < till do end
  return "done"
end)
print(ok, e.kind, d.x, d.x)]]
  local out, err, status = t.shell(
    ('env --default-signal=INT "$FZLUA" %s </dev/null'):format(script))
  t.equal({ out, err, status }, { "false\tinterrupted\tdone\tdone\n", "", 0 })
end

tests["a server that cannot be asked by itself says so"] = function()
  local m <close> = fz.manager()
  local d = m:dict { a = {} }
  local a = d.a
  d.a = nil
  d:update("x", function() collectgarbage() collectgarbage() end)
  local e = t.fails("error", d.update, d, "x", function() return a.b end)
  t.match(e, "a function that runs in a manager cannot call that manager")
end

tests["numbers of the run, and messages within it"] = function()
  local self = core.member()
  assert(core.alive(self) and self ~= elsewhere(core.member))
  local p = started(core.member)
  local other = p:result()
  p:join()
  t.until_true(function() return not core.alive(other) end)
  t.match(t.wrong(function() core.alive(0) end), "out of range")
  t.match(t.wrong(function() core.decode("abc", 4) end), "out of range")
  local q = fz.queue()
  t.equal({ core.decode("abc" .. core.encode(1, nil, q), 3) }, { 1, nil, q })
  t.fails("error", core.decode, "nonsense", 0)
end

return tests
