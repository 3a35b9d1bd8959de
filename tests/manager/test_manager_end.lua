-- test_manager_end.lua - the processes that use a manager, and every way for it to end.

local t = ...
local core = require "fzlua.core"

local tests = {}

local started, elsewhere = t.start, t.elsewhere

local function server_of(m)
  return math.tointeger(tonumber(tostring(m):match "process (%d+)"))
end

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
  local early <close> = started(function() -- this process starts before the manager is made
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
end

tests["a child may make tables in the manager of its parent"] = function()
  local m <close> = fz.manager()
  local made = elsewhere(function() return m:dict { by = "a child" } end)
  t.equal(made.by, "a child")
end

-- Operations that `draw` chooses, on a dict and a list and also on the local tables `model` and
-- `row`, which must have the same contents.
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
  t.equal(q:get(30), 2)
  -- In pool.apply() the engine waits for the bytes, so __fzpack cannot use the manager.
  local pool <close> = fz.pool(1)
  t.match(t.fails("error", pool.apply, pool, function(x) return x end, setmetatable({}, Asks)),
    "__fzpack of class 'test_manager.Asks'", "fzlua cannot be used here: a value is being packed")
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
  t.equal(d.x, 1) -- the server lives as long as its maker has a proxy
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

tests["closing a manager ends the waits for it"] = function()
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
  -- A proxy of a freed table can still be stored.
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

-- A client is killed, or times out, while the server runs a function that the client has sent.
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
    local mark = t.mark()
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
    t.shell(([[
unset MARK; MARK=%s "$FZLUA" %s >/dev/null 2>&1 </dev/null & pid=$!
sleep 0.3; %s; wait $pid]]):format(mark, script, ending))
    t.equal(t.left_of(mark), "")
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

tests["a manager that is open at the end of a script or process writes its files"] = function()
  for _, code in ipairs {
    "run()",
    "fz.process(run):start()",
    "fz.spawn(run)",
  } do
    local path = t.file ""
    local _, err, status = t.command("-e", ([[
function run()
  manager = fz.manager()
  manager:dict { a = 1 }:update("a", function(a)
    file = io.open(%q, "w")
    file:write "text"
    return a
  end)
end
%s]]):format(path, code))
    t.equal({ err, status, io.open(path):read "a" }, { "", 0, "text" })
  end
end

return tests
