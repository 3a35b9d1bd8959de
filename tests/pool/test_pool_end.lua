-- test_pool_end.lua - every way to end a pool, after which no process or descriptor is left.

local t = ...
local core = require "fzlua.core"

local tests = {}

local function all_gone(pids)
  for _, pid in ipairs(pids) do
    if t.is_running(pid) then return false end
  end
  return true
end

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

tests["a result that is found before an earlier one has arrived is not lost"] = function()
  local list = t.numbers(400)
  for _ = 1, 40 do
    local pool <close> = fz.pool(4)
    local r = pool:map_async(function(x)
      while x % 40 == 0 do end
      return x
    end, list, { timeout = 0.01, on_error = "continue" })
    local out = r:get(40)
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
  assert(fz.now() - from < 40)
  t.equal(all_gone(pids), true)
  t.fails("cancelled", r.get, r)
  t.fails("closed", pool.apply, pool, math.abs, 1)
  t.equal({ pool:join(), pool:join(1) }, { true, true })
  pool:terminate()
end

tests["a scope that ends normally waits for its calls, one that ends by an error cancels them"] =
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
  t.equal(r:get(30), 3) -- the result keeps its pool alive
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
  local before = t.descriptors()
  for i = 1, 100 do round(i) end
  t.until_true(function()
    collectgarbage()
    collectgarbage()
    return t.descriptors() <= before and t.children() == ""
  end)
end

-- A class whose __fzpack and __fzunpack are functions of a test.
local Odd = fz.register_class("test_pool.Odd", {})
local function odd(pack, unpack)
  Odd.__fzpack = pack or function() return 1 end
  Odd.__fzunpack = unpack or function() return setmetatable({}, Odd) end
  return setmetatable({}, Odd)
end

tests["__fzpack can neither end its pool nor call it"] = function()
  local pool <close> = fz.pool(2)
  for _, act in ipairs {
    function() pool:terminate() end, function() pool:apply_async(math.abs, { 1 }) end,
    function() return pool.workers end, function() pool:map(math.abs, { 1 }) end,
  } do
    local object = odd(function() act() return 1 end)
    local e = t.fails("error", pool.map, pool, tostring, { 1, 1, object, 2 })
    t.match(e.message, "__fzpack of class", "fzlua cannot be used here: a value is being packed")
    e = t.fails("error", pool.apply, pool, tostring, object)
    t.match(e.message, "fzlua cannot be used here: a value is being packed")
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
  t.match(e.message, "it would wait for itself")
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
  assert(seconds(20000) < 40 * few) -- 10 times as long if linear; 100 times if quadratic
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

-- Elements are sent together. If a worker cannot read one of them, only this one must fail, and the
-- others must not be lost.
tests["an element that cannot be read fails alone, whatever is sent with it"] = function()
  local Picky = fz.register_class("test.Picky", {
    __fzpack = function(self) return self.n end,
    __fzunpack = function(n)
      if n % 7 == 3 then error "unreadable" end
      return { n = n }
    end,
  })
  local list, lists = {}, {}
  for i = 1, 20 do
    list[i] = setmetatable({ n = i }, Picky)
    lists[i] = { { i }, list[i] }
  end
  local pool <close> = fz.pool(2)
  local function check(r)
    for i = 1, #list do
      if i % 7 ~= 3 then
        t.equal({ r[i], r.errors[i] }, { i })
      else
        t.match(r.errors[i], "item " .. i, "unreadable")
        t.equal({ r[i], r.errors[i].index, r.errors[i].attempt }, { nil, i, 2 })
      end
    end
  end
  for _, chunksize in ipairs { 1, 3, 20 } do
    local options = { chunksize = chunksize, on_error = "continue", retries = 1 }
    check(pool:map(function(x) return x.n end, list, options))
    check(pool:starmap(function(one, x) return one[1] == x.n and x.n end, lists, options))
  end
  t.equal(t.fails("error", pool.map, pool, function() end, list).index % 7, 3)
end

return tests
