-- test_pool.lua - fz.pool: apply and its results, the functions it calls, and every way to end.

local t = ...
local core = require "fzlua.core"

local tests = {}

local function sleep(seconds)
  os.execute("sleep " .. seconds)
end

local function all_gone(pids)
  for _, pid in ipairs(pids) do
    if t.is_running(pid) then return false end
  end
  return true
end

-- Run f(pool) with workers, and with -j0.
local function both(options, f)
  do
    local pool <close> = fz.pool(options)
    f(pool)
  end
  local _ <close> = t.in_this_process()
  local pool <close> = fz.pool(options)
  t.equal(pool.workers, {})
  f(pool)
end

-- Records what fzlua.log is told while it is open.
local function listen()
  local log = require "fzlua.log"
  local lines, told = {}, log.error
  log.error = function(fmt, ...) lines[#lines + 1] = fmt:format(...) end
  return lines, setmetatable({}, { __close = function() log.error = told end })
end

-- ---- apply ------------------------------------------------------------------

tests["apply gives f all arguments and returns all that it returns"] = function()
  both(2, function(pool)
    local r = table.pack(pool:apply(function(...) return select("#", ...), ... end, nil, 2, nil))
    t.equal({ r.n, r[1], r[2], r[3], r[4] }, { 4, 3, nil, 2, nil })
    t.equal(select("#", pool:apply(function() end)), 0)
    local shared = {}
    local a, b = pool:apply(function(x, y) return { x == y }, x end, shared, shared)
    t.equal({ a, b }, { { true }, {} })
    local many = t.numbers(3000)
    t.equal({ pool:apply(function(...) return ... end, table.unpack(many)) }, many)
  end)
end

tests["every kind of value goes there and back"] = function()
  local cycle = { [1.5] = -0.0, ["\0"] = ("x"):rep(1000) }
  cycle.self = cycle
  both(2, function(pool)
    local back = pool:apply(function(v) return v end, cycle)
    assert(back ~= cycle and back.self == back)
    t.equal({ 1 / back[1.5], back["\0"] }, { -math.huge, ("x"):rep(1000) })
    local list = { 1, 1.0, "1", true, false, math.mininteger, math.huge, { { {} } } }
    t.equal({ pool:apply(function(...) return ... end, table.unpack(list)) }, list)
    local nan = pool:apply(function() return 0 / 0 end)
    assert(nan ~= nan)
  end)
end

tests["an error has kind, index, attempt, pid, cause and the worker's traceback"] = function()
  local pool <close> = fz.pool(1)
  local function inner() error { code = 7 } end
  local e = t.fails("error", pool.apply, pool, function() inner() return 1 end)
  t.equal({ e.cause, e.attempt, e.pid, e.index }, { { code = 7 }, 1, pool.workers[1] })
  t.match(e.traceback, "stack traceback:", "test_pool.lua", "inner")
  t.match(tostring(e), "attempt 1, pid " .. e.pid)
  e = t.fails("error", pool.map, pool, function(x) error("boom " .. x) end, { 1 })
  t.match(e, "item 1, attempt 1, pid ", "test_pool.lua:", "boom 1", "stack traceback:")
end

tests["whatever is raised arrives, and the pool goes on"] = function()
  both(2, function(pool)
    local values = {
      function() error(setmetatable({}, { __tostring = function() error "x" end })) end,
      function() error(coroutine.create(print)) end,
      function() error(nil) end,
      function() error(io.stdout) end,
      function() error(print) end,
      function() error({ co = coroutine.create(print) }) end,
      function() error(setmetatable({}, { __tostring = function() return "named" end })) end,
      function()
        -- A finalizer without stack fails, and what it should free leaks.
        local _ <close> = setmetatable({}, { __close = function() collectgarbage "restart" end })
        collectgarbage()
        collectgarbage "stop"
        local function deep(n) return deep(n + 1) + 1 end
        deep(1)
      end,
    }
    for i, f in ipairs(values) do
      local e = t.fails("error", pool.apply, pool, f)
      t.equal({ type(e.message), type(tostring(e)) }, { "string", "string" })
      if i == 7 then t.match(e, "named") end
      e = t.fails("error", pool.map, pool, f, { 1 })
      t.equal(e.index, 1)
    end
    t.equal(pool:apply(math.max, 1, 2), 2)
  end)
end

tests["what cannot be sent is told at the call, with its path"] = function()
  both(2, function(pool)
    local co = coroutine.create(print)
    local arg = { cfg = { cb = co } }
    local text = "argument 1: .cfg.cb: a coroutine cannot be sent"
    t.equal(t.fails("unsendable", pool.apply, pool, print, arg).message, text)
    t.equal(t.fails("unsendable", pool.apply_async, pool, print, { arg }).message, text)
    t.match(t.fails("unsendable", pool.apply, pool, print, 1, { co }).message, "argument 2: [1]")
    t.equal(pool:apply(function() return 1 end), 1)
  end)
end

tests["a result that cannot be sent says which one, with its path"] = function()
  both(2, function(pool)
    local e = t.fails("unsendable", pool.apply, pool, function()
      return 1, { rows = { coroutine.create(print) } }
    end)
    t.match(e.message, "result 2: .rows[1]: a coroutine cannot be sent")
    t.equal(pool:apply(function() return 1 end), 1)
  end)
end

-- ---- asynchronous results ---------------------------------------------------

tests["apply_async: get, wait, ready and successful"] = function()
  local pool <close> = fz.pool(2)
  local go = t.file ""
  os.remove(go)
  local r = pool:apply_async(function(path, ...)
    while not io.open(path) do os.execute "sleep 0.01" end
    return ...
  end, { go, 1, nil, 3, nil, n = 5 })
  t.equal({ r:ready(), r:successful() }, { false })
  t.equal({ r:get(0.01) }, { nil, "timeout" })
  t.equal({ r:wait(0.01) }, { nil, "timeout" })
  io.open(go, "w"):close()
  t.equal(r:wait(), true)
  t.equal({ r:ready(), r:successful(), r:done() }, { true, true, true })
  for _ = 1, 2 do
    local got = table.pack(r:get())
    t.equal(got, { 1, nil, 3, nil, n = 4 })
  end
  t.equal({ r:wait(0), r:cancel() }, { true, false })
  local failing = pool:apply_async(function() error "no" end)
  t.equal(failing:wait(), true)
  t.equal({ failing:ready(), failing:successful() }, { true, false })
  for _ = 1, 2 do t.match(t.fails("error", failing.get, failing), "no") end
end

tests["apply_async in this process gives the same"] = function()
  local _ <close> = t.in_this_process()
  local pool <close> = fz.pool()
  local r = pool:apply_async(function(a, b) return a + b, nil end, { 1, 2 })
  t.equal(table.pack(r:get()), { 3, nil, n = 2 })
  r = pool:apply_async(error, { "no" })
  t.equal({ r:wait(), r:successful() }, { true, false })
  t.match(t.fails("error", r.get, r), "no")
end

tests["results that nobody gets are no matter"] = function()
  local pool <close> = fz.pool(2)
  for i = 1, 50 do
    pool:apply_async(function(x) if x % 2 == 0 then error(x) end return x end, { i })
  end
  collectgarbage()
  t.equal(pool:apply(math.abs, -1), 1)
end

tests["callbacks get the results or the error, in this process"] = function()
  both(2, function(pool)
    local got, here = {}, core.pid()
    local r = pool:apply_async(function(...) return ... end, { 1, nil, 3 }, {
      callback = function(...) got.ok = { n = select("#", ...), core.pid() == here, ... } end,
      error_callback = function() got.wrong = true end,
    })
    local s = pool:apply_async(function() error "x" end, {}, {
      callback = function() got.wrong = true end,
      error_callback = function(e) got.e = e end,
    })
    local m = pool:map_async(function(x) return x * 2 end, { 1, 2 }, {
      callback = function(list) got.list = list end,
    })
    r:wait() s:wait() m:wait()
    t.equal(got.ok, { n = 3, true, 1, nil, 3 })
    t.equal({ got.e.kind, got.list, got.wrong }, { "error", { 2, 4, n = 2 } })
  end)
end

tests["a callback that raises is logged, the result is there, join returns"] = function()
  both(2, function(pool)
    local lines, _ <close> = listen()
    local function bad() error "from a callback" end
    local r = pool:apply_async(function() return 5 end, nil, { callback = bad })
    local s = pool:apply_async(function() error "x" end, nil, { error_callback = bad })
    t.equal(r:get(), 5)
    t.fails("error", s.get, s)
    t.equal(#lines, 2)
    t.match(lines[1], "a callback raised: ", "from a callback", "stack traceback:", "test_pool.lua")
    pool:close()
    t.equal(pool:join(20), true)
  end)
end

tests["a callback may use its pool, its result and others"] = function()
  both(2, function(pool)
    local inner, got
    local r
    r = pool:apply_async(function() return 5 end, nil, {
      callback = function(x)
        got = { r:get(), pool:apply(math.max, x, 3), pool:map(math.abs, { -x })[1] }
        inner = pool:apply_async(function(y) return y + 1 end, { x })
      end,
    })
    r:wait()
    t.equal({ got, inner:get() }, { { 5, 5, 5 }, 6 })
  end)
end

tests["a pool with a callback to come is not collected"] = function()
  local got
  do
    local pool = fz.pool(1)
    pool:apply_async(function() os.execute "sleep 0.1" return 7 end, nil, {
      callback = function(x) got = x end,
    })
  end
  collectgarbage()
  collectgarbage()
  local other <close> = fz.pool(1)
  local deadline = fz.now() + 20
  while not got and fz.now() < deadline do other:apply(sleep, 0.02) end
  t.equal(got, 7)
end

tests["cancel ends a running call, and one that waits; the pool goes on"] = function()
  local pool <close> = fz.pool(1)
  local path = t.file ""
  os.remove(path)
  local running = pool:apply_async(function()
    io.open(path, "w"):close()
    while true do end
  end)
  local waiting = pool:apply_async(function() return "never" end)
  local last = pool:apply_async(function() return "last" end)
  t.until_true(function()
    running:ready()
    local file = io.open(path)
    return file and file:close()
  end)
  local pid = pool.workers[1]
  t.equal({ waiting:cancel(), waiting:cancel() }, { true, false })
  t.equal({ running:cancel(), running:ready(), running:successful() }, { true, true, false })
  t.equal(t.fails("cancelled", running.get, running).message, "cancelled")
  t.fails("cancelled", waiting.get, waiting)
  t.equal(t.is_running(pid), false)
  t.equal(last:get(), "last")
end

tests["cancel of a map under way ends it"] = function()
  local pool <close> = fz.pool(2)
  local started = t.file ""
  local r = pool:map_async(function()
    io.open(started, "a"):write("x"):close()
    while true do end
  end, t.numbers(100))
  t.until_true(function() r:ready() return #io.open(started):read "a" >= 2 end)
  t.equal(r:cancel(), true)
  t.fails("cancelled", r.get, r)
  t.equal(pool:map(math.abs, { -1, -2 }), { 1, 2, n = 2 })
end

tests["timeout and retries are those of the call, else of the pool"] = function()
  local marks = t.file ""
  local function third(path)
    local file = io.open(path, "a+")
    file:write "x"
    file:seek "set"
    local n = #file:read "a"
    file:close()
    if n < 3 then error "not yet" end
    return n
  end
  local pool <close> = fz.pool { workers = 1, timeout = 0.2, retries = 2 }
  t.equal(pool:apply(third, marks), 3)
  io.open(marks, "w"):close()
  local e = t.fails("error", function()
    pool:apply_async(third, { marks }, { retries = 1 }):get()
  end)
  t.equal(e.attempt, 2)
  e = t.fails("timeout", pool.apply, pool, function() while true do end end)
  t.equal(e.attempt, 3)
  local r = pool:apply_async(sleep, { 0.5 }, { timeout = 30 })
  t.equal({ r:get() }, {})
end

-- ---- functions --------------------------------------------------------------

tests["functions made after the workers have their upvalues, and new ones when they change"] =
function()
  local pool <close> = fz.pool(2)
  pool:map(math.abs, t.numbers(10))
  local before = pool.workers
  table.sort(before)
  local k = 3
  local f = function(x) return x * k end
  t.equal(pool:map(f, { 1, 2 }), { 3, 6, n = 2 })
  k = 5
  t.equal(pool:map(f, { 1, 2 }), { 5, 10, n = 2 })
  t.equal(pool:apply(f, 1), 5)
  f = function(x) return x + k end
  t.equal(pool:map(f, { 1, 2 }), { 6, 7, n = 2 })
  k = nil
  t.fails("error", pool.apply, pool, f, 1)
  local after = pool.workers
  table.sort(after)
  t.equal(after, before)
end

tests["functions of one message share their upvalues"] = function()
  both(1, function(pool)
    pool:apply(print and math.abs, 1)
    local n = 0
    local function add() n = n + 1 end
    local function get() return n end
    t.equal(pool:apply(function(a, b) a() a() return b() end, add, get), 2)
    local function f() add() return get() + n end
    t.equal(pool:apply(f) % 2, 0)
  end)
end

tests["recursive functions and functions in tables go to workers"] = function()
  local pool <close> = fz.pool(2)
  pool:apply(math.abs, 1)
  local function fib(n) return n < 2 and n or fib(n - 1) + fib(n - 2) end
  t.equal(pool:map(fib, { 1, 10, 15 }), { 1, 55, 610, n = 3 })
  local library = { twice = function(x) return 2 * x end }
  t.equal(pool:apply(function(x) return library.twice(x) end, 4), 8)
  t.equal(pool:apply(function(f) return f(21) end, library.twice), 42)
end

tests["a function sent by value uses the standard files, the library and C modules"] = function()
  local lpeg = require "lpeg"
  local match, format, stderr = lpeg.match, string.format, io.stderr
  both(1, function(pool)
    pool:apply(math.abs, 1)
    t.equal(pool:apply(function(x) return format("%05d", x) end, 42), "00042")
    t.equal(pool:apply(function() return stderr == io.stderr and io.type(stderr) end), "file")
    t.equal(pool:apply(function(s)
      return match(require("lpeg").P "ab", s)
    end, "abc"), 3)
    t.equal(pool:apply(string.rep, "ab", 2), "abab")
  end)
end

tests["more functions than a worker keeps are sent anew when they are used again"] = function()
  local pool <close> = fz.pool(2)
  local list = {}
  for i = 1, 300 do list[i] = load(("return function(x) return x + %d end"):format(i))() end
  for _ = 1, 2 do
    for i, f in ipairs(list) do t.equal(pool:apply(f, 1), i + 1) end
  end
  local results = {}
  for i, f in ipairs(list) do results[i] = pool:apply_async(f, { 2 }) end
  for i, r in ipairs(results) do t.equal(r:get(), i + 2) end
end

tests["what a function cannot bring along is told by its upvalue's name"] = function()
  local pool <close> = fz.pool(1)
  pool:apply(math.abs, 1)
  local co = coroutine.create(print)
  local e = t.fails("unsendable", pool.apply, pool, function() return co end)
  t.match(e.message, "<upvalue co>", "a coroutine cannot be sent")
  t.equal(pool:apply(math.abs, -1), 1)
end

tests["what a worker changes stays its own"] = function()
  local pool <close> = fz.pool(1)
  local list = { 1 }
  global_of_a_test = 1 -- luacheck: ignore
  t.equal(pool:apply(function()
    list[2] = 2
    global_of_a_test = 2 -- luacheck: ignore
    return #list
  end), 2)
  t.equal({ list, global_of_a_test }, { { 1 }, 1 }) -- luacheck: ignore
  global_of_a_test = nil -- luacheck: ignore
end

-- ---- workers ----------------------------------------------------------------

tests["a pool has as many workers as were asked for, by default one a processor"] = function()
  local pool <close> = fz.pool(3)
  t.equal(#pool.workers, 3)
  local seen, n = {}, 0
  for _, pid in ipairs(pool.workers) do seen[pid] = true end
  for _, pid in ipairs(pool:map(function() return fz.current_process().pid end, t.numbers(50))) do
    assert(seen[pid], "a worker that is not in pool.workers")
    n = n + 1
  end
  t.equal({ n, #pool.workers }, { 50, 3 })
  local default <close> = fz.pool()
  t.equal(#default.workers, fz.cpu_count())
  local option <close> = fz.pool { workers = 2 }
  t.match(tostring(option), "fzlua.Pool (2 workers)")
  option:close()
  t.match(tostring(option), "fzlua.Pool (2 workers, closed)")
end

tests["workers run side by side"] = function()
  local pool <close> = fz.pool(2)
  -- Each call waits for the other's file: they end only if both run at once.
  local a, b = t.file "", t.file ""
  os.remove(a)
  os.remove(b)
  local function meet(mine, other)
    io.open(mine, "w"):close()
    local deadline = fz.now() + 20
    while not io.open(other) and fz.now() < deadline do end
    return io.open(other) ~= nil
  end
  t.equal(pool:starmap(meet, { { a, b }, { b, a } }), { true, true, n = 2 })
end

tests["init runs once in each worker, before its first call"] = function()
  local path = t.file ""
  local model
  local pool <close> = fz.pool {
    workers = 2,
    init = function()
      io.open(path, "a"):write("x"):close()
      model = "loaded"
    end,
  }
  local function use() return model end
  for _ = 1, 3 do
    for _, got in ipairs(pool:map(use, t.numbers(20))) do t.equal(got, "loaded") end
  end
  local n = #io.open(path):read "a"
  assert(n >= 1 and n <= 2, n)
end

tests["an error in init is the call's error, and init is tried again"] = function()
  local path = t.file ""
  os.remove(path)
  local pool <close> = fz.pool {
    workers = 1,
    init = function() if not io.open(path) then error "no model" end end,
  }
  t.match(t.fails("error", pool.apply, pool, math.abs, 1), "no model", "test_pool.lua")
  t.match(t.fails("error", pool.map, pool, math.abs, { 1, 2, 3 }), "no model")
  io.open(path, "w"):close()
  t.equal(pool:apply(math.abs, -1), 1)
end

tests["max_tasks replaces a worker after so many calls"] = function()
  local pool <close> = fz.pool { workers = 2, max_tasks = 5 }
  local calls = {}
  for _, pid in ipairs(pool:map(core.pid, t.numbers(103))) do calls[pid] = (calls[pid] or 0) + 1 end
  for _ = 1, 12 do
    local pid = pool:apply(core.pid)
    calls[pid] = (calls[pid] or 0) + 1
  end
  local total = 0
  for _, n in pairs(calls) do
    assert(n <= 5, n)
    total = total + n
  end
  t.equal(total, 115)
end

tests["random numbers: workers differ, a seed settles them for any number of workers"] = function()
  local function draw() return math.random(0), math.random(100) end
  local function first() return math.random(0) end
  local function sequence(options)
    local pool <close> = fz.pool(options)
    local list = pool:map(first, t.numbers(20), { seed = 7 })
    for _, n in ipairs(pool:map(first, t.numbers(20))) do list[#list + 1] = n end
    for _ = 1, 3 do
      local a, b = pool:apply(draw)
      list[#list + 1] = a
      list[#list + 1] = b
    end
    return list
  end
  local one = sequence { workers = 1, seed = 3 }
  t.equal(sequence { workers = 4, seed = 3 }, one)
  local seen = {}
  for _, n in ipairs(one) do
    assert(n <= 100 or not seen[n], "the same random number twice")
    seen[n] = true
  end
  local other = sequence { workers = 2, seed = 4 }
  assert(other[1] == one[1] and other[21] ~= one[21] and other[41] ~= one[41])
  local _ <close> = t.in_this_process()
  t.equal(sequence { seed = 3 }, one)
end

-- ---- the end ----------------------------------------------------------------

tests["a closed pool takes no work and finishes what it has"] = function()
  local pool = fz.pool(2)
  local r = pool:apply_async(function() os.execute "sleep 0.1" return 1 end)
  local m = pool:map_async(function(x) return x end, t.numbers(100))
  pool:close()
  pool:close()
  for _, name in ipairs {
    "apply", "apply_async", "map", "map_async", "starmap", "starmap_async", "imap",
    "imap_unordered",
  } do
    local e = t.fails("closed", pool[name], pool, math.abs, {})
    t.equal(e.message, ("pool:%s: the pool is closed"):format(name))
  end
  t.equal(pool:join(), true)
  t.equal({ r:get(), #m:get() }, { 1, 100 })
  t.equal(pool.workers, {})
  t.equal(pool:join(), true)
end

tests["terminate ends a lazy map whose source goes on"] = function()
  local pool, n, taken = fz.pool(2), 0, 0
  local e = t.fails("cancelled", function()
    for i in pool:imap(function(x) return x end, function() n = n + 1 return n end) do
      taken = i
      if i == 5 then pool:terminate() end
    end
  end)
  t.match(e.message, "its pool was closed")
  assert(taken >= 5 and n < 100)
end

tests["a result that is looked for before the one ahead of it came is not lost"] = function()
  local list = t.numbers(400)
  for _ = 1, 40 do
    local pool <close> = fz.pool(4)
    local r = pool:map_async(function(x)
      while x % 40 == 0 do end
      return x
    end, list, { timeout = 0.01, on_error = "continue" })
    local out = r:get(10)
    if not out then pool:terminate() end
    assert(out, "an item neither ended nor ran out of time")
    for i = 1, 400 do assert(out.errors[i] or i % 40 ~= 0 and out[i] == i) end
  end
end

tests["many calls under way cost no more each than a few"] = function()
  local function seconds(n)
    local pool <close> = fz.pool(2)
    local results, start = {}, os.clock()
    for i = 1, n do results[i] = pool:apply_async(math.abs, { -i }) end
    for i = 1, n do t.equal(results[i]:get(), i) end
    return os.clock() - start
  end
  local few = seconds(2000)
  assert(seconds(20000) < 10 * 5 * (few + 0.01))
end

tests["join waits for what was submitted, or runs out"] = function()
  local pool = fz.pool(1)
  local go = t.file ""
  os.remove(go)
  local r = pool:apply_async(function()
    while not io.open(go) do os.execute "sleep 0.01" end
    return 1
  end)
  t.match(t.fails("error", pool.join, pool), "call close() or terminate() first")
  pool:close()
  t.equal({ pool:join(0.05) }, { nil, "timeout" })
  t.equal({ pool:join(0) }, { nil, "timeout" })
  io.open(go, "w"):close()
  t.equal(pool:join(30), true)
  t.equal(r:get(), 1)
end

tests["terminate ends all at once, also what blocks every signal it can"] = function()
  local pool = fz.pool(2)
  local ready = t.file ""
  local r = pool:map_async(function()
    io.open(ready, "a"):write("x"):close()
    os.execute "trap '' TERM INT HUP QUIT; sleep 77"
    while true do end
  end, t.numbers(4))
  local pids = pool.workers
  t.until_true(function() r:ready() return #io.open(ready):read "a" == 2 end)
  local from = fz.now()
  pool:terminate()
  assert(fz.now() - from < 10)
  t.equal(all_gone(pids), true)
  t.fails("cancelled", r.get, r)
  t.fails("closed", pool.apply, pool, math.abs, 1)
  t.equal({ pool:join(), pool:join(1) }, { true, true })
  pool:terminate()
end

tests["a scope that ends normally finishes its work, one that ends by an error does not"] =
function()
  local path = t.file ""
  local function late(seconds)
    os.execute("sleep " .. seconds)
    io.open(path, "a"):write("x"):close()
  end
  do
    local pool <close> = fz.pool(2)
    for _ = 1, 4 do pool:apply_async(late, { 0.05 }) end
  end
  t.equal(io.open(path):read "a", "xxxx")
  local r, pids
  t.match(select(2, pcall(function()
    local pool <close> = fz.pool(2)
    r = pool:apply_async(late, { 30 })
    pids = pool.workers
    error "the scope's"
  end)), "the scope's")
  t.equal({ all_gone(pids), #io.open(path):read "a" }, { true, 4 })
  t.fails("cancelled", r.get, r)
end

tests["a pool that is dropped is collected with its workers"] = function()
  local pids
  do
    local pool = fz.pool(2)
    pool:map(math.abs, t.numbers(10))
    pool:apply_async(function() while true do end end)
    pids = pool.workers
  end
  collectgarbage()
  collectgarbage()
  t.until_true(function() return all_gone(pids) end)
end

tests["what a dropped pool's result can still say"] = function()
  local r
  do
    local pool = fz.pool(1)
    r = pool:apply_async(function() return 3 end)
  end
  collectgarbage()
  collectgarbage()
  t.equal(r:get(30), 3) -- a result keeps its pool
end

tests["a script that leaves a pool open ends at once, and nothing is left"] = function()
  for ending, status in pairs { [""] = 0, ["error 'x'"] = 1, ["os.exit(3)"] = 3 } do
    local from = fz.now()
    local out, _, got = t.command("-e", [[
      pool = fz.pool(2)
      print(pool:apply(math.abs, -1))
      for i = 1, 3 do print(pool.workers[i]) end
      pool:map(math.abs, { -1, -2 }) ]] .. ending)
    t.equal({ out:match "^1\n", got }, { "1\n", status })
    assert(fz.now() - from < 20)
    local pids = {}
    for pid in out:gmatch "%d%d+" do pids[#pids + 1] = tonumber(pid) end
    t.until_true(function() return all_gone(pids) end)
  end
end

tests["output of a call is there when its result is, whole lines, once"] = function()
  local out = t.command("-e", [[
io.write "x"
local pool <close> = fz.pool(4)
local r = pool:apply(function() io.write "one " print "two" return "three" end)
print(r)
pool:map(function(i) for _ = 1, 20 do print(("%d"):rep(40):format(
  table.unpack(setmetatable({}, { __index = function() return i end }), 1, 40))) end end,
  { 1, 2, 3, 4, 5, 6, 7, 8 })
print "end"]])
  local head, rest = out:match "^(.-three\n)(.*)$"
  t.equal(head, "xone two\nthree\n")
  local n = {}
  for line in rest:gmatch "[^\n]+" do
    if line ~= "end" then
      local digit = line:sub(1, 1)
      t.equal(line, digit:rep(40))
      n[digit] = (n[digit] or 0) + 1
    end
  end
  for i = 1, 8 do t.equal(n[tostring(i)], 20) end
  t.equal(rest:sub(-4), "end\n")
end

tests["a piece of a line is there when its result is"] = function()
  t.equal(t.command("-e", [[
local pool <close> = fz.pool(2)
for i = 1, 3 do
  pool:apply(function() io.write(i) end)
  io.write "|"
end
pool:map(function() io.write "x" end, { 1, 2, 3 })
io.write "|"
fz.map(function() io.write "y" end, { 1, 2, 3 }, { jobs = 2 })
print "|"]]), "1|2|3|xxx|yyy|\n")
end

-- ---- nesting ----------------------------------------------------------------

tests["a pool inside a pool's call works, at any depth"] = function()
  local function tree(depth)
    if depth == 0 then return 1 end
    local inner <close> = fz.pool(2)
    local list, sum = inner:map(tree, { depth - 1, depth - 1 }), 0
    for _, n in ipairs(list) do sum = sum + n end
    return sum
  end
  both(2, function(pool)
    t.equal(pool:apply(tree, 3), 8)
    t.equal(pool:map(tree, { 1, 2 }), { 2, 4, n = 2 })
  end)
end

tests["fz.map inside a pool's call, and chains in both"] = function()
  local pool <close> = fz.pool(2)
  local list = pool:map(function(n)
    local sum = 0
    for _, v in ipairs(fz.map(function(x) return x * n end, { 1, 2, 3 }, { jobs = 2 })) do
      sum = sum + v
    end
    local stage = fz.stage "s"
    stage:register("A", function(a) return a + 1 end)
    local chain <close> = fz.chain { stage }
    return chain({ A = sum }).A
  end, { 1, 10 })
  t.equal(list, { 7, 61, n = 2 })
end

tests["a pool used inside its own call has workers of its own there"] = function()
  local pool <close> = fz.pool(1)
  local function f(depth)
    if depth == 0 then return core.pid() end
    return core.pid(), pool:apply(f, depth - 1)
  end
  local a, b, c = pool:apply(f, 2)
  assert(a == pool.workers[1] and a ~= b and b ~= c and c ~= core.pid())
  local d, e = pool:apply(function() return pool:apply(f, 1) end) -- shares the upvalue of f
  assert(d ~= a and d ~= e)
  local again = pool -- one that the worker has not
  local err = t.fails("unsendable", pool.apply, pool, function() return again:apply(f, 1) end)
  t.match(err.message, "upvalue again", "a pool cannot be sent")
  local other <close> = fz.pool(1) -- inherited: made before there are workers
  t.equal(other:map(function(n) return #other:map(math.abs, t.numbers(n)) end, { 3, 5 }),
    { 3, 5, n = 2 })
end

-- ---- wrong use --------------------------------------------------------------

tests["wrong arguments are told at the user's line"] = function()
  t.match(t.wrong(fz.pool, 0), "'workers'", "fz.pool")
  t.match(t.wrong(fz.pool, "4"), "#1", "fz.pool")
  t.match(t.wrong(fz.pool, { worker = 1 }), "'worker'", "no such option")
  for name, value in pairs {
    workers = 1.5, init = 1, max_tasks = 0, timeout = -1, retries = -1, on_error = "x", seed = "a",
  } do
    t.match(t.wrong(fz.pool, { [name] = value }), ("'%s'"):format(name), "fz.pool")
  end
  both(1, function(pool)
    local f = math.abs
    for _, name in ipairs {
      "apply", "apply_async", "map", "map_async", "starmap", "starmap_async", "imap",
      "imap_unordered",
    } do
      local what = ("'pool:%s'"):format(name)
      t.match(t.wrong(pool[name], pool, nil, {}), "#1", what, "function expected, got no value")
      t.match(t.wrong(pool[name], pool, { 1 }, {}), "#1", what, "got table")
      t.match(t.wrong(pool[name], nil, f, {}), what, "a pool expected")
      if name ~= "apply" then
        t.match(t.wrong(pool[name], pool, f, 5), "#2", what, "got number")
        t.match(t.wrong(pool[name], pool, f, {}, 5), "#3", what, "got number")
        t.match(t.wrong(pool[name], pool, f, {}, { timout = 1 }), "'timout'", what:sub(2, -2))
        t.match(t.wrong(pool[name], pool, f, {}, { timeout = "1" }), "'timeout'", what:sub(2, -2))
      end
    end
    t.match(t.wrong(pool.map, pool, f, {}, { chunksize = 0 }), "'chunksize'")
    t.match(t.wrong(pool.map, pool, f, {}, { callback = print }), "'callback'", "no such option")
    t.match(t.wrong(pool.imap, pool, f, {}, { inflight = 0 }), "'inflight'")
    t.match(t.wrong(pool.apply_async, pool, f, {}, { callback = 1 }), "'callback'")
    local r = pool:apply_async(f, { 1 })
    t.match(t.wrong(r.get, r, -1), "'timeout'")
    t.match(t.wrong(r.wait, r, "1"), "'timeout'")
    r:get()
    pool:close()
    t.match(t.wrong(pool.join, pool, -1), "'timeout'")
  end)
end

-- ---- nothing is left --------------------------------------------------------

local function descriptors()
  local n, names = 0, {}
  local pipe <close> = assert(io.popen(
    ("ls -l /proc/%d/fd | sed 's/.*-> //'"):format(core.pid())))
  for line in pipe:lines() do
    n, names[#names + 1] = n + 1, line
  end
  return n, table.concat(names, "\n")
end

tests["a hundred pools, ended in every way, leave no descriptor and no child"] = function()
  local function round(i)
    local pool = fz.pool(i % 3 + 1)
    pool:map(math.abs, t.numbers(i))
    local r = pool:apply_async(i % 2 == 0 and error or math.abs, { 1 })
    if i % 5 == 0 then pool:terminate() return end
    if i % 5 == 1 then pool:close() pool:join() return end
    if i % 5 == 2 then r:cancel() pool:close() return end
    if i % 5 == 3 then pcall(pool.apply, pool, os.exit, 3) return end
    r:wait()
  end
  round(1)
  collectgarbage()
  local before = descriptors()
  for i = 1, 100 do round(i) end
  collectgarbage()
  collectgarbage()
  local names
  t.until_true(function()
    collectgarbage()
    local now, list = descriptors()
    names = list
    return now <= before
  end)
  local pipe <close> = assert(io.popen(("exec pgrep -P %d"):format(core.pid())))
  local kids = pipe:read "a"
  local _, n = kids:gsub("\n", "")
  assert(n <= 1, kids .. names) -- pgrep itself
end

-- A class whose packing and unpacking are what a test wants.
local Odd = fz.register_class("test_pool.Odd", {})
local function odd(pack, unpack)
  Odd.__fzpack = pack or function() return 1 end
  Odd.__fzunpack = unpack or function() return setmetatable({}, Odd) end
  return setmetatable({}, Odd)
end

tests["what packs a value cannot end its pool, nor call it"] = function()
  local pool <close> = fz.pool(2)
  for _, act in ipairs {
    function() pool:terminate() end, function() pool:apply_async(math.abs, { 1 }) end,
    function() return pool.workers end, function() pool:map(math.abs, { 1 }) end,
  } do
    local object = odd(function() act() return 1 end)
    local e = t.fails("error", pool.map, pool, tostring, { 1, 1, object, 2 })
    t.match(e.message, "__fzpack of class", "cannot do this while a value is packed")
    e = t.fails("error", pool.apply, pool, tostring, object)
    t.match(e.message, "cannot do this while a value is packed")
  end
  t.equal(pool:apply(math.abs, -1), 1)
end

tests["what unpacks a result may cancel it, but not wait for it"] = function()
  local pool <close> = fz.pool(2)
  local parent, r = core.pid(), nil
  local function make(act)
    local object = odd(nil, function()
      if core.pid() == parent then act() end
      return setmetatable({}, Odd)
    end)
    return function() return object end
  end
  for _, start in ipairs {
    function(f) return pool:map_async(f, { 1, 2, 3 }) end,
    function(f) return pool:apply_async(f) end,
  } do
    r = start(make(function() r:cancel() end))
    t.fails("cancelled", r.get, r, 30)
    r = start(make(function() r:get() end))
    t.match(tostring(select(2, pcall(r.get, r, 30))), "waits for itself")
    r = start(make(function() error "no" end))
    t.match(tostring(select(2, pcall(r.get, r, 30))), "no")
  end
  t.equal(pool:apply(math.abs, -1), 1)
end

tests["a result is its own process's alone"] = function()
  local pool <close> = fz.pool(2)
  local r = pool:apply_async(function() os.execute "sleep 0.2" return 7 end)
  local e = t.fails("error", fz.map, function() return r:get() end, { 1 })
  t.equal(e.cause.kind, "closed")
  t.equal(r:get(30), 7)
end

tests["a length that is none is a wrong argument"] = function()
  local pool <close> = fz.pool(1)
  for _, length in ipairs { -3, 2.5, "x" } do
    local list = setmetatable({}, { __len = function() return length end })
    t.match(t.wrong(pool.map, pool, math.abs, list), "its length is " .. length)
    t.match(t.wrong(fz.map, math.abs, list), "its length is " .. length)
  end
end

tests["a call in this process does not wait for its own pool"] = function()
  local _ <close> = t.in_this_process()
  local pool = fz.pool(1)
  local e = t.fails("error", pool.apply, pool, function()
    pool:close()
    pool:join()
  end)
  t.match(e.message, "waits for itself")
end

tests["many calls are cancelled in no time"] = function()
  local function seconds(n)
    local pool = fz.pool(2)
    local results, from = {}, os.clock()
    for i = 1, n do results[i] = pool:apply_async(math.abs, { i }) end
    for i = n, 1, -1 do results[i]:cancel() end
    for i = 1, n do results[i] = pool:apply_async(math.abs, { i }) end
    pool:terminate()
    return os.clock() - from
  end
  local few = math.max(seconds(2000), 0.02)
  assert(seconds(20000) < 40 * few) -- ten times as many; each pair would be a hundred times
end

tests["map_async and starmap_async take the list as it is at the call, at any depth"] = function()
  local pool <close> = fz.pool(1)
  local gate = fz.event()
  local function first(x) gate:wait(20) return type(x) == "table" and x.a.b or x end
  local function sum(a, b) gate:wait(20) return a.n + b end
  for _, case in ipairs {
    { "numbers", function(i) return i end, function(list, i) list[i] = -1 end, first },
    { "records", function(i) return { a = { b = i } } end,
      function(list, i) list[i].a.b = -1 end, first },
    { "arguments", function(i) return { { n = i }, i } end,
      function(list, i) list[i][1].n = -1 list[i][2] = -1 end, sum },
  } do
    local name, make, change, f = table.unpack(case)
    local list, expected = {}, { n = 500 }
    for i = 1, 500 do
      list[i] = make(i)
      expected[i] = f == sum and 2 * i or i
    end
    local start = f == sum and pool.starmap_async or pool.map_async
    local r = start(pool, f, list)
    for i = 1, 500 do change(list, i) end
    list[501] = make(501)
    gate:set()
    local ok, got = pcall(r.get, r)
    gate:clear()
    if not ok then error(name .. ": " .. tostring(got)) end
    t.equal(got, expected)
  end
end

tests["map_async: functions as elements have the upvalues of the call"] = function()
  local pool <close> = fz.pool(1)
  local n = 1
  local r = pool:map_async(function(f) return f() end, { function() return n end })
  n = 2
  t.equal(r:get(), { 1, n = 1 })
end

tests["map_async: an element that cannot be sent fails by itself"] = function()
  local pool <close> = fz.pool(1)
  local list = { { 1 }, { coroutine.create(print) }, { 3 } }
  local r = pool:map_async(function(x) return x[1] end, list, { on_error = "continue" })
  list[1][1], list[3][1] = -1, -1
  local got = r:get()
  t.equal({ got[1], got[3], got.errors[2].kind }, { 1, 3, "unsendable" })
end

return tests
