-- test_map.lua - pool:map, pool:starmap, their async kinds, and fz.map and fz.starmap.

local t = ...
local core = require "fzlua.core"

local tests = {}

local function twice(x)
  return x * 2
end

-- Call f(map, starmap, what) for every way to map.
local function every_way(f)
  for _, workers in ipairs { 1, 2, 5 } do
    local pool <close> = fz.pool(workers)
    local function by(name)
      return function(...) return pool[name](pool, ...) end
    end
    f(by "map", by "starmap", "pool")
    local function wait(name)
      return function(...) return pool[name](pool, ...):get() end
    end
    f(wait "map_async", wait "starmap_async", "async")
  end
  for _, jobs in ipairs { 0, 1, 2, 8 } do
    local function by(name)
      return function(g, list, options)
        options = options or {}
        options.jobs = jobs
        return fz[name](g, list, options)
      end
    end
    f(by "map", by "starmap", "fz")
  end
  local _ <close> = t.in_this_process()
  local pool <close> = fz.pool()
  f(function(...) return pool:map(...) end, function(...) return pool:starmap(...) end, "-j0")
  f(fz.map, fz.starmap, "-j0")
end

tests["results come in the order of the list, n is its length"] = function()
  every_way(function(map, starmap)
    for _, n in ipairs { 0, 1, 2, 7, 1000 } do
      local list = map(twice, t.numbers(n))
      t.equal({ #list, list.n, list.errors }, { n, n })
      for i = 1, n do t.equal(list[i], 2 * i) end
    end
    t.equal(starmap(function(a, b) return a .. b end, { { 1, 2 }, { "x", "y" } }),
      { "12", "xy", n = 2 })
  end)
end

tests["holes and nils: n counts, an element whose call returned nothing is nil"] = function()
  every_way(function(map, starmap)
    local list = map(function(x) return x == nil and "hole" or x end, { 1, nil, 3, nil, n = 5 })
    t.equal(list, { 1, "hole", 3, "hole", "hole", n = 5 })
    t.equal(map(function(x) if x ~= 2 then return x end end, { 1, 2, 3 }), { 1, nil, 3, n = 3 })
    t.equal(map(function() end, { 1, 2 }), { n = 2 })
    t.equal(map(twice, { 1, 2, 3, n = 2 }), { 2, 4, n = 2 })
    t.equal(map(twice, { n = 0 }), { n = 0 })
    t.equal(starmap(function(...) return select("#", ...) end,
      { {}, { nil, nil, n = 2 }, { 1, nil, 3 } }), { 0, 2, 3, n = 3 })
  end)
end

tests["only the first result is kept"] = function()
  every_way(function(map)
    t.equal(map(function(x) return x, "more" end, { 1, 2 }), { 1, 2, n = 2 })
  end)
end

tests["values of any kind, each element by itself"] = function()
  every_way(function(map, _, what)
    local shared = { 1 }
    local list = map(function(x) return x end, { shared, shared, "s", 1.5, false, { a = shared } })
    t.equal({ list[1], list[3], list[4], list[5], list[6].a }, { { 1 }, "s", 1.5, false, { 1 } })
    assert(list[1] ~= list[2] and list[1] ~= shared, what)
    local f = map(function(x) return function() return x end end, { 5 })[1]
    t.equal(f(), 5)
  end)
end

tests["what a call does to its element is seen by no other"] = function()
  every_way(function(map, _, what)
    if what == "fz" or map == fz.map then return end -- fz.map does not copy its elements
    local shared = {}
    local function add(x)
      x[#x + 1] = 1
      return #x
    end
    t.equal(map(add, { shared, shared, shared }, { chunksize = 3 }), { 1, 1, 1, n = 3 })
    t.equal(#shared, 0)
  end)
end

tests["lists with metatables are read as the language reads them"] = function()
  local proxy = setmetatable({}, {
    __index = function(_, i) return math.type(i) and i <= 5 and i * 10 or nil end,
    __len = function() return 5 end,
  })
  every_way(function(map)
    t.equal(map(twice, proxy), { 20, 40, 60, 80, 100, n = 5 })
  end)
end

tests["chunksize changes no result"] = function()
  every_way(function(map)
    for _, chunksize in ipairs { 1, 3, 100, 1000 } do
      local list = map(twice, t.numbers(100), { chunksize = chunksize })
      t.equal({ list.n, list[1], list[50], list[100] }, { 100, 2, 100, 200 })
    end
  end)
end

tests["seed: the same numbers for any number of workers, one by one different"] = function()
  local expected
  every_way(function(map, starmap)
    local function draw() return math.random(0) end
    local list = map(draw, t.numbers(30), { seed = 7 })
    expected = expected or list
    t.equal(list, expected)
    t.equal(map(draw, t.numbers(30), { seed = 7, chunksize = 4 }), expected)
    t.equal(starmap(draw, { {}, {} }, { seed = 7 }), { expected[1], expected[2], n = 2 })
    local seen = {}
    local others = { list, map(draw, t.numbers(30), { seed = 8 }), map(draw, t.numbers(9)) }
    for _, other in ipairs(others) do
      for _, n in ipairs(other) do
        assert(not seen[n], "the same random number twice")
        seen[n] = true
      end
    end
  end)
end

tests["fz.map inherits function and list: what cannot be sent is no matter"] = function()
  local co = coroutine.wrap(function() while true do coroutine.yield "from before" end end)
  local list = { { f = co }, { f = co }, { f = co } }
  for _, jobs in ipairs { 1, 2, 8 } do
    t.equal(fz.map(function(x) return x.f() .. co() end, list, { jobs = jobs }),
      { "from beforefrom before", "from beforefrom before", "from beforefrom before", n = 3 })
  end
end

tests["fz.map runs init once in each of its workers"] = function()
  local path = t.file ""
  local model
  local list = fz.map(function() return model end, t.numbers(50), {
    jobs = 2,
    init = function()
      io.open(path, "a"):write(core.pid(), "\n"):close()
      model = core.pid()
    end,
  })
  local inits = {}
  for pid in io.lines(path) do
    assert(not inits[pid], "init ran twice in one worker")
    inits[pid] = true
  end
  for i = 1, 50 do assert(inits[tostring(list[i])]) end
end

tests["a large list of large values, and 10 MB each way"] = function()
  local pool <close> = fz.pool(2)
  local big = ("fzlua"):rep(2 << 20)
  assert(pool:apply(function(s) return s end, big) == big)
  for _, s in ipairs(pool:map(function(s) return s .. "." end, { big, big, big })) do
    assert(s == big .. ".")
  end
  local list = pool:map(function(x) return ("x"):rep(x) end, t.numbers(3000))
  for i = 1, 3000 do t.equal(#list[i], i) end
end

tests["300 MB go there and back"] = function()
  local available = tonumber(io.open("/proc/meminfo"):read("a"):match "MemAvailable:%s*(%d+)")
  if available < 6 << 20 or os.getenv "ASAN_OPTIONS" then return end
  local pool <close> = fz.pool(1)
  local big = ("0123456789"):rep(30 << 20)
  local back = pool:apply(function(s) return s end, big)
  t.equal({ #back, back == big }, { #big, true })
end

tests["a million elements"] = function()
  local pool <close> = fz.pool(2)
  local list = pool:map(twice, t.numbers(1000000))
  t.equal(list.n, 1000000)
  for i = 1, 1000000 do
    if list[i] ~= 2 * i then error(i) end
  end
end

local function at_17(x)
  if x == 17 then error { code = 17 } end
  return x
end

tests["item 17 of 1,000 raises: stop and now raise its error"] = function()
  every_way(function(map)
    for _, policy in ipairs { "stop", "now" } do
      local e = t.fails("error", map, at_17, t.numbers(1000), { on_error = policy })
      t.equal({ e.index, e.attempt, e.cause }, { 17, 1, { code = 17 } })
      t.match(e, "item 17, attempt 1", "stack traceback:")
    end
    t.equal(t.fails("error", map, at_17, t.numbers(1000)).index, 17)
  end)
end

tests["item 17 of 1,000 raises: continue gives the 999 others"] = function()
  every_way(function(map)
    local list = map(at_17, t.numbers(1000), { on_error = "continue" })
    t.equal({ list.n, list[17], list[1000] }, { 1000, nil, 1000 })
    local n = 0
    for i = 1, 1000 do n = n + (list[i] == i and 1 or 0) end
    t.equal(n, 999)
    local index, e = next(list.errors)
    t.equal({ index, next(list.errors, index) }, { 17 })
    t.equal({ getmetatable(e) == fz.Error, e.kind, e.index, e.cause },
      { true, "error", 17, { code = 17 } })
    t.equal(map(twice, { 1 }, { on_error = "continue" }), { 2, n = 1, errors = {} })
  end)
end

tests["stop starts nothing new and lets what runs finish, now ends it"] = function()
  for policy, finished in pairs { stop = 1, now = 0 } do
    local pool <close> = fz.pool(2)
    local begun, ended, others = t.file "", t.file "", t.file ""
    local e = t.fails("error", pool.map, pool, function(x)
      if x == 1 then
        io.open(begun, "a"):write("x"):close()
        local until_end = fz.now() + (policy == "stop" and 0.5 or 20)
        while fz.now() < until_end do end
        io.open(ended, "a"):write("x"):close()
      elseif x == 2 then
        while #io.open(begun):read "a" == 0 do end
        error "two"
      else
        os.execute "sleep 0.1" -- items sent ahead may begin before they are recalled
        io.open(others, "a"):write("x"):close()
      end
    end, t.numbers(50), { on_error = policy, chunksize = 1 })
    t.equal({ e.index, #io.open(ended):read "a" }, { 2, finished })
    assert(#io.open(others):read "a" < 10)
    t.equal(pool:map(twice, { 1 }), { 2, n = 1 })
  end
end

tests["every element fails"] = function()
  every_way(function(map)
    local list = map(function(x) error(x) end, t.numbers(100), { on_error = "continue" })
    t.equal({ #list, list.n }, { 0, 100 })
    for i = 1, 100 do t.equal({ list.errors[i].index, list.errors[i].cause }, { i, i }) end
    t.fails("error", map, function(x) error(x) end, t.numbers(100))
  end)
end

tests["an element or a result that cannot be sent fails by itself, with its path"] = function()
  every_way(function(map, starmap, what)
    local co = coroutine.create(print)
    local list = map(function(x)
      return x == 2 and { rows = { coroutine.create(print) } } or x
    end, { 1, 2, 3 }, { on_error = "continue" })
    t.equal({ list[1], list[2], list[3], list.errors[2].kind }, { 1, nil, 3, "unsendable" })
    t.match(list.errors[2], "item 2", "result: .rows[1]: a coroutine cannot be sent")
    if what == "fz" then return end
    list = map(type, { 1, { cfg = { cb = co } }, 3 }, { on_error = "continue" })
    if what == "-j0" and list[2] then return end -- fz.map copies no elements
    t.equal({ list[1], list[3], list.errors[2].kind }, { "number", "number", "unsendable" })
    t.match(list.errors[2], "item 2", "argument 1: .cfg.cb: a coroutine cannot be sent")
    local e = t.fails("unsendable", starmap, type, { { 1, co } })
    t.match(e, "item 1", "argument", "[2]: a coroutine cannot be sent")
  end)
end

tests["a starmap's element that is no list is an error of that item"] = function()
  every_way(function(_, starmap)
    local list = starmap(math.max, { { 1, 2 }, 5, { 3 } }, { on_error = "continue" })
    t.equal({ list[1], list[3] }, { 2, 3 })
    t.match(list.errors[2], "item 2", "a list of arguments expected, got number")
  end)
end

tests["retries try an element again, attempt counts"] = function()
  local marks = t.file ""
  os.remove(marks)
  local function second(x)
    local path = marks .. x
    if x % 5 == 0 and not os.remove(path) then
      io.open(path, "w"):close()
      error "not yet"
    end
    return x
  end
  every_way(function(map)
    local list = map(second, t.numbers(40), { retries = 1 })
    for i = 1, 40 do t.equal(list[i], i) end
    local e = t.fails("error", map, function() error "never" end, { 1 }, { retries = 2 })
    t.equal(e.attempt, 3)
  end)
end

tests["backoff waits before a retry"] = function()
  local pool <close> = fz.pool(1)
  local from = fz.now()
  t.fails("error", pool.map, pool, error, { 1 }, { retries = 2, backoff = 0.1 })
  assert(fz.now() - from >= 0.3, fz.now() - from)
end

tests["memory limits a worker, and the error is of kind memory"] = function()
  if os.getenv "ASAN_OPTIONS" then return end
  local pool <close> = fz.pool(2)
  local list = pool:map(function(x)
    -- Lua 5.4.0 raises a plain error if string.rep has no memory.
    local text = "x"
    while x == 3 and #text < 1 << 28 do text = text .. text end
    return x
  end, t.numbers(6), { memory = "64M", on_error = "continue" })
  t.equal({ list[1], list[6], list[3] }, { 1, 6 })
  t.equal({ list.errors[3].kind, list.errors[3].index }, { "memory", 3 })
end

tests["a list that changes while it is mapped is an error that says so"] = function()
  local pool <close> = fz.pool(2)
  local function changed_by(change)
    local list = t.numbers(300000)
    local function progress()
      if change then change(list) end
      change = nil
    end
    return t.fails("error", pool.map, pool, twice, list, { progress = progress })
  end
  t.match(changed_by(function(list) list[#list + 1] = 1 end),
    "the list was changed while it was being mapped", "it had 300000 elements, now 300001")
  t.match(changed_by(function(list) for i = 300000, 1001, -1 do list[i] = nil end end),
    "the list was changed", "now 1000")
  t.equal(pool:map(twice, { 1, 2 }), { 2, 4, n = 2 })
end

-- Returns a progress function, which checks its arguments, and a function that checks the last
-- counts and returns the number of events of each kind.
local function recorder(total)
  local kinds, last = { start = 0, done = 0, failed = 0, retry = 0 }, { 0, 0 }
  local check_order = t.event_order()
  return function(done, n, event)
    check_order(event)
    t.equal(n, total)
    assert(done >= last[1] and done <= total)
    last = { done, n }
    kinds[event.kind] = kinds[event.kind] + 1
    if event.kind == "done" then
      assert(event.index >= 1 and event.index <= total and event.seconds >= 0)
    end
  end, function()
    t.equal(last, { total, total })
    return kinds
  end
end

tests["progress is called for each element, the last call has done == total"] = function()
  every_way(function(map)
    local progress, check = recorder(500)
    map(twice, t.numbers(500), { progress = progress })
    local kinds = check()
    t.equal(kinds, { start = 500, done = 500, failed = 0, retry = 0 })
  end)
end

tests["progress of failures and retries ends with done == total, too"] = function()
  every_way(function(map)
    local function odd(x) if x % 2 == 0 then error "even" end return x end
    local progress, check = recorder(100)
    map(odd, t.numbers(100), { progress = progress, on_error = "continue", retries = 1 })
    t.equal({ check().done, check().failed, check().retry }, { 50, 50, 50 })
    progress, check = recorder(100)
    t.fails("error", map, odd, t.numbers(100), { progress = progress })
    local kinds = check()
    t.equal(kinds.done + kinds.failed, 100)
    progress, check = recorder(1)
    map(twice, { 1 }, { progress = progress })
    t.equal(check().done, 1)
  end)
end

tests["a progress function that raises is logged once, and the map goes on"] = function()
  local script = t.file [[
local pool <close> = fz.pool(2)
local calls = 0
local options = { progress = function()
  calls = calls + 1
  error { code = 1 }
end }
local list = {}
for i = 1, 1000 do list[i] = -i end
print(#fz.map(math.abs, list, options), #pool:starmap(math.max, { { 1 }, { 2 } }, options))
print(pool:map_async(math.abs, list, options):get()[1000], calls)]]
  for _, jobs in ipairs { "-j2", "-j0" } do
    local out, err, status = t.command(jobs, script)
    t.equal({ out, status }, { "1000\t2\n1000\t3\n", 0 })
    local _, logged = err:gsub("a progress function raised", "")
    t.equal(logged, 3)
  end
end

tests["events of failures and retries say how long the attempt took"] = function()
  every_way(function(map)
    local took = {}
    map(function(x)
      local till = fz.now() + 0.01
      while fz.now() < till do end
      error(x)
    end, { "a", "b" }, { retries = 1, on_error = "continue", progress = function(_, _, event)
      if event.kind ~= "start" then took[#took + 1] = event.seconds end
    end })
    t.equal(#took, 4)
    for _, seconds in ipairs(took) do assert(seconds > 0) end
  end)
end

tests["a progress function may use the pool"] = function()
  local pool <close> = fz.pool(2)
  local sum, progress = 0, recorder(20)
  pool:map(twice, t.numbers(20), {
    progress = function(done, total, event)
      progress(done, total, event)
      if event.kind == "done" then sum = sum + pool:apply(twice, 1) end
    end,
  })
  t.equal(sum, 40)
end

tests["maps and calls at once share the workers, each gets its own results"] = function()
  local pool <close> = fz.pool(3)
  local results = {}
  for k = 1, 20 do
    results[k] = pool:map_async(function(x) return x * k end, t.numbers(50))
    results[-k] = pool:apply_async(function() return -k end)
  end
  t.equal(pool:map(twice, { 4 }), { 8, n = 1 })
  for k = 20, 1, -1 do
    local list = results[k]:get()
    for i = 1, 50 do t.equal(list[i], i * k) end
    t.equal(results[-k]:get(), -k)
  end
end

tests["a short map does not wait for a long one before it"] = function()
  local pool <close> = fz.pool(2)
  local go = t.file ""
  os.remove(go)
  local long = pool:map_async(function(x)
    if x == 1 then
      while not io.open(go) do os.execute "sleep 0.01" end
    end
    return x
  end, t.numbers(100))
  t.equal(pool:map(twice, { 1, 2, 3 }), { 2, 4, 6, n = 3 })
  io.open(go, "w"):close()
  t.equal(#long:get(), 100)
end

local function spin(seconds)
  local from = fz.now()
  while fz.now() < from + seconds do end
end

-- Map 2000 short elements and then six long ones. Returns how many long ones each worker got, the
-- longest time between two events, and the time of the map.
local function short_then_long(pool)
  local list = {}
  for i = 1, 2000 do list[i] = 1e-5 end
  for i = 2001, 2006 do list[i] = 0.1 end
  local who, longest = {}, 0
  local from <const> = fz.now()
  local last = from
  pool:map(function(seconds)
    if seconds < 0.01 then spin(seconds) else os.execute("sleep " .. seconds) end
  end, list, {
    progress = function(_, _, event)
      local now = fz.now()
      longest, last = math.max(longest, now - last), now
      if event.kind == "done" and event.index > 2000 then
        who[event.pid] = (who[event.pid] or 0) + 1
      end
    end,
  })
  return who, longest, fz.now() - from
end

tests["short elements first, long ones last: all workers get of them"] = function()
  local pool <close> = fz.pool(2)
  local from = fz.now()
  pool:map(function(seconds) os.execute("sleep " .. seconds) end, { 0.1, 0.1, 0.1, 0.1 })
  local serial = fz.now() - from -- time of four long elements on two workers, at the present load
  -- Several tries, because a busy machine may delay a worker in one of them.
  local most, longest, took
  for _ = 1, 5 do
    local who
    who, longest, took = short_then_long(pool)
    most = 0
    for _, n in pairs(who) do most = math.max(most, n) end
    if most <= 4 and took < 4 * serial + 2 and longest < 2 then return end
  end
  error(("one worker got %d of 6 long ones; %.2f s, %.2f s without an event"):format(most, took,
    longest))
end

tests["a late element costs what an early one did"] = function()
  local pool <close> = fz.pool(2)
  local function time(n)
    local best = math.huge
    local list = t.numbers(n)
    for _ = 1, 3 do
      local from = fz.now()
      pool:map(twice, list)
      best = math.min(best, (fz.now() - from) / n)
    end
    return best
  end
  time(1000)
  -- Several tries, because a busy machine may delay only the second measurement of one of them.
  local early, late
  for _ = 1, 10 do
    early, late = time(20000), time(400000)
    if late < 4 * early then return end
  end
  error(("%.2f us, then %.2f us"):format(early * 1e6, late * 1e6))
end

tests["many workers, few elements, again and again: none is lost"] = function()
  local path = t.file ""
  for _ = 1, 60 do
    -- Opening a file takes so long that the parent may look for results during a call.
    local list = fz.map(function(x) io.open(path):close() return x end, t.numbers(40), { jobs = 8 })
    t.equal(#list, 40)
  end
end

tests["a table that is no list, or a length that no list has, is a wrong argument"] = function()
  local pool <close> = fz.pool(1)
  local cases = { { a = 1 }, { [3] = true }, { n = 1 << 53 }, { 1, n = math.maxinteger } }
  for _, what in ipairs(cases) do
    for _, method in ipairs { "map", "starmap", "map_async", "starmap_async", "imap" } do
      t.match(t.wrong(pool[method], pool, twice, what), "a list expected")
    end
    t.match(t.wrong(pool.apply_async, pool, twice, what), "a list expected")
    t.match(t.wrong(fz.map, twice, what), "a list expected")
    t.match(t.wrong(fz.starmap, twice, what), "a list expected")
  end
  t.match(t.wrong(pool.apply_async, pool, twice, { n = 1 << 30 }), "too many")
  t.equal(fz.map(twice, { a = 1, n = 0 }), { n = 0 })
  t.equal(pool:map(twice, {}), { n = 0 })
end

tests["a manager's list is mapped like any other"] = function()
  local manager <close> = fz.manager()
  local list = manager:list { 1, 2, 3 }
  local rows = manager:list { { 1, 2 }, { 3, 4 } }
  local pool <close> = fz.pool(2)
  local function add(a, b) return a + b end
  t.equal(pool:map(twice, list), { 2, 4, 6, n = 3 })
  t.equal(pool:map_async(twice, list):get(), { 2, 4, 6, n = 3 })
  t.equal(pool:starmap(add, rows), { 3, 7, n = 2 })
  t.equal(fz.map(twice, list), { 2, 4, 6, n = 3 })
  t.equal(fz.starmap(add, rows), { 3, 7, n = 2 })
  t.equal(pool:apply_async(add, rows[2]):get(), 7)
  t.match(t.wrong(pool.map, pool, twice, manager:dict { a = 1 }), "the key a")
end

tests["wrong arguments of fz.map raise at the user's line"] = function()
  for _, name in ipairs { "map", "starmap" } do
    local map, what = fz[name], ("'fz.%s'"):format(name)
    t.match(t.wrong(map), "#1", what, "function expected, got no value")
    t.match(t.wrong(map, twice), "#2", what, "table expected")
    t.match(t.wrong(map, twice, "x"), "#2", what, "got string")
    t.match(t.wrong(map, twice, {}, 2), "#3", what, "got number")
    t.match(t.wrong(map, twice, {}, { job = 2 }), "'job'", "no such option",
      "the nearest is 'jobs'")
    t.match(t.wrong(map, twice, {}, { workers = 2 }), "the nearest is 'jobs'")
    t.match(t.wrong(map, twice, {}, { xyzzyxyzzy = 2 }), "no such option; there are backoff, ")
    t.match(t.wrong(map, twice, {}, { jobs = -1 }), "'jobs'", what)
    t.match(t.wrong(map, twice, {}, { workers = 2 }), "'workers'", "no such option")
    t.match(t.wrong(map, twice, {}, { chunksize = 1.5 }), "'chunksize'", what)
  end
end

tests["the command's options are the defaults of maps and pools"] = function()
  local script = t.file [[
local pool <close> = fz.pool()
local list = fz.map(function() return fz.current_process().pid end, { 1, 2 })
print(#pool.workers, list[1] == fz.current_process().pid)
print(pcall(pool.map, pool, function() while true do end end, { 1 }))
print(fz.map(math.random, { 1000, 1000 })[2], pool:map(math.random, { 1000 })[1])]]
  local out = t.command("-j", "3", "--timeout", "0.2", "--seed", "5", script)
  t.match(out, "3\tfalse\n", "its timeout of 0.2 s")
  local again = t.command("-j0", "--timeout", "0.2", "--seed", "5", script)
  t.match(again, "0\ttrue\n")
  t.equal(out:match "[^\n]*\n$", again:match "[^\n]*\n$")
end

tests["calls run in other processes, -j0 in this one"] = function()
  every_way(function(map, _, what)
    local here = map(core.pid, { 1, 2 })[1] == core.pid()
    if what == "-j0" then t.equal(here, true) end
    if what == "pool" or what == "async" then t.equal(here, false) end
  end)
end

return tests
