-- test_pool.lua - fz.pool: apply and its results, the functions it calls, its workers.

local t = ...
local core = require "fzlua.core"

local tests = {}

local function sleep(seconds)
  os.execute("sleep " .. seconds)
end

local both = t.both_pools

-- Collect the errors that are logged. Returns their list, and a value whose close ends this.
local function listen()
  local log = require "fzlua.log"
  local lines, told = {}, log.error
  log.error = function(fmt, ...) lines[#lines + 1] = fmt:format(...) end
  return lines, setmetatable({}, { __close = function() log.error = told end })
end

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
        -- No collection during the recursion: a finalizer would have no stack, and leak.
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

tests["a value that cannot be sent raises at the call, with its path"] = function()
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

tests["results that are not fetched are dropped"] = function()
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
  local pool <close> = fz.pool { workers = 1, timeout = 0.5, retries = 2 }
  t.equal(pool:apply(third, marks), 3)
  io.open(marks, "w"):close()
  local e = t.fails("error", function()
    pool:apply_async(third, { marks }, { retries = 1 }):get()
  end)
  t.equal(e.attempt, 2)
  e = t.fails("timeout", pool.apply, pool, function() while true do end end)
  t.equal(e.attempt, 3)
  local r = pool:apply_async(sleep, { 0.8 }, { timeout = 30 })
  t.equal({ r:get() }, {})
end

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

tests["an upvalue that cannot be sent is named"] = function()
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
  -- Each call waits for the file of the other one, so both succeed only if they run at once.
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
  local d, e = pool:apply(function() return pool:apply(f, 1) end) -- f has the same upvalue
  assert(d ~= a and d ~= e)
  local again = pool -- the worker does not have this upvalue
  local err = t.fails("unsendable", pool.apply, pool, function() return again:apply(f, 1) end)
  t.match(err.message, "upvalue again", "a pool cannot be sent")
  local other <close> = fz.pool(1) -- the worker is forked later, and so inherits this variable
  t.equal(other:map(function(n) return #other:map(math.abs, t.numbers(n)) end, { 3, 5 }),
    { 3, 5, n = 2 })
end

tests["calls sent ahead keep their turn if the call before them is cancelled"] = function()
  local begun, order, calls = t.file "", {}, {}
  local function quick(x) return x end
  local function take(x) order[#order + 1] = x end
  local pool <close> = fz.pool(1)
  for i = 1, 50 do pool:apply(quick, i) end
  local long = pool:apply_async(function()
    io.open(begun, "w"):write("yes"):close()
    while true do end
  end)
  for i = 1, 300 do calls[i] = pool:apply_async(quick, { i }, { callback = take }) end
  repeat fz.sleep(0.01) until t.read(begun) == "yes"
  long:cancel()
  for i = 1, 300 do calls[i]:get() end
  t.equal(order, t.numbers(300))
end

tests["wrong arguments raise at the user's line"] = function()
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
    t.match(t.wrong(r.get, r, -1), "#1 to 'result:get'", "seconds expected")
    t.match(t.wrong(r.wait, r, "1"), "#1 to 'result:wait'", "number expected")
    r:get()
    pool:close()
    t.match(t.wrong(pool.join, pool, -1), "#1 to 'pool:join'", "seconds expected")
  end)
end

return tests
