-- test_pool_functions.lua - what the functions of a pool reach: the values of the call, and
-- what they share with init and with each other in a worker.

local t = ...
local core = require "fzlua.core"

local tests = {}

-- Every way to have f called in a worker without arguments of use.
local routes = {
  apply = function(pool, f) return pool:apply(f) end,
  apply_async = function(pool, f) return pool:apply_async(f):get() end,
  map = function(pool, f) return pool:map(f, { 1, 2, 3 })[3] end,
  map_async = function(pool, f) return pool:map_async(f, { 1, 2, 3 }):get()[3] end,
  starmap = function(pool, f) return pool:starmap(f, { { 1 }, { 2 } })[2] end,
  imap = function(pool, f)
    local last
    for _, value in pool:imap(f, { 1, 2, 3 }) do last = value end
    return last
  end,
  imap_unordered = function(pool, f)
    for _, value in pool:imap_unordered(f, { 1 }) do return value end
  end,
}

-- A class whose objects travel packed, with what they hold out of their reach.
local hidden = setmetatable({}, { __mode = "k" })
local Box = fz.register_class("test_pool_functions.Box", {
  __fzpack = function(box) return hidden[box] end,
})
function Box.__fzunpack(value)
  local box = setmetatable({}, Box)
  hidden[box] = value
  return box
end

Box.__index = { get = function(box) return hidden[box] end }

local function kill_worker()
  os.execute("kill -9 " .. core.pid())
end

local Point = fz.register_class("test_pool_functions.Point", { __name = "Point" })

-- Each returns a function that reads a value, and one that sets it.
local worlds = {}

worlds["an upvalue"] = function()
  local value
  return function() return value end, function(v) value = v end
end

worlds["an upvalue that hundreds of others precede"] = function()
  local functions = {}
  for i = 1, 300 do functions[i] = function() return i end end
  local value
  functions[301] = function() return value end
  return function() return functions[301]() end, function(v) value = v end
end

worlds["an upvalue of a helper's helper's ... helper"] = function()
  local value
  local f = function() return value end
  for _ = 1, 40 do
    local g = f
    f = function() return g() end
  end
  return f, function(v) value = v end
end

worlds["a field"] = function()
  local config = {}
  return function() return config.value end, function(v) config.value = v end
end

worlds["an element far down"] = function()
  local top = {}
  local list = top
  for _ = 1, 1000 do
    list[1] = {}
    list = list[1]
  end
  return function()
    local at = top
    while at[1] do at = at[1] end
    return at.value
  end, function(v) list.value = v end
end

worlds["one of many numbers"] = function()
  local numbers = t.numbers(5000)
  return function() return numbers[4321] end, function(v) numbers[4321] = v end
end

worlds["a key"] = function()
  local set = {}
  return function() return next(set)[1] end, function(v)
    for k in pairs(set) do set[k] = nil end
    set[{ v }] = true
  end
end

worlds["a new table in the place of another"] = function()
  local config
  return function() return config[1] end, function(v) config = { v } end
end

worlds["a table of a registered class"] = function()
  local point = setmetatable({}, Point)
  return function() return getmetatable(point) == Point and point.x end,
    function(v) point.x = v end
end

worlds["what an object is packed into"] = function()
  local box = setmetatable({}, Box)
  return function() return hidden[box] end, function(v) hidden[box] = v end
end

worlds["what an object is packed into, read by a method"] = function()
  local box = setmetatable({}, Box)
  return function() return box:get() end, function(v) hidden[box] = v end
end

worlds["an upvalue of a function in a table"] = function()
  local value
  local library = { inner = { get = function() return value end } }
  return function() return library.inner.get() end, function(v) value = v end
end

worlds["another function in a table"] = function()
  local library = {}
  return function() return library.get() end, function(v)
    library.get = function() return v end
  end
end

worlds["an upvalue of a recursive function"] = function()
  local value
  local function f(n) return n == 9 and value or f(9) end
  return f, function(v) value = v end
end

worlds["functions that have each other"] = function()
  local value, f
  local function g(n) return n == 9 and value or f(9) end
  f = function(n) return g(n) end
  return f, function(v) value = v end
end

worlds["an upvalue that is joined with another"] = function()
  local value
  local function f() return value end
  return f, function(v)
    local other = function() return v end
    debug.upvaluejoin(f, 1, other, 1)
  end
end

worlds["a helper whose upvalue is joined with another"] = function()
  local value
  local function helper() return value end
  return function() return helper() end, function(v)
    debug.upvaluejoin(helper, 1, function() return v end, 1)
  end
end

-- Values that follow each other: all differ in what a function can see.
local VALUES <const> = { 1, 1.0, -0.0, 0.0, 1, "1", true, ("x"):rep(5000), ("y"):rep(5000), 1 }

local function check_values(pool, route, world)
  local f, set = world()
  for i, value in ipairs(VALUES) do
    set(value)
    local got = route(pool, f)
    if got ~= value or math.type(got) ~= math.type(value) or got == 0 and 1 / got ~= 1 / value then
      error(("value %d, %.20s: got %.20s"):format(i, tostring(value), tostring(got)))
    end
  end
end

-- The pools in which a function may be new, inherited, or inherited by a worker that came later.
local pools = {
  ["the first to be called"] = { workers = 2 },
  ["newer than the workers"] = { workers = 2, used = true },
  ["called by ever new workers"] = { workers = 2, max_tasks = 1 },
  ["called in this process"] = { workers = 2, here = true },
}

for name, world in pairs(worlds) do
  tests["a call sees what it finds now: " .. name] = function()
    for how, options in pairs(pools) do
      local _ <close> = options.here and t.in_this_process()
      for by, route in pairs(routes) do
        local pool <close> = fz.pool { workers = options.workers, max_tasks = options.max_tasks }
        if options.used then pool:apply(math.abs, 1) end
        local ok, e = pcall(check_values, pool, route, world)
        if not ok then error(("%s, %s: %s"):format(by, how, tostring(e))) end
      end
    end
  end
end

tests["a value that comes back is seen, whatever workers came meanwhile"] = function()
  local pool <close> = fz.pool { workers = 1, max_tasks = 1 }
  local list = { 1 }
  local function f() return list[1] end
  t.equal(pool:apply(f), 1)
  list[1] = 2
  pool:apply(math.abs, 1)
  pool:apply(math.abs, 1)
  list[1] = 1
  t.equal(pool:apply(f), 1)
  local pid = pool.workers[1]
  list[1] = 3
  t.fails("crash", pool.apply, pool, kill_worker)
  t.until_true(function() return not t.is_running(pid) end)
  pool:apply(math.abs, 1)
  list[1] = 1
  t.equal(pool:apply(f), 1)
end

tests["calls under way keep the values that they were made with"] = function()
  local pool <close> = fz.pool(2)
  pool:apply(math.abs, 1)
  local value, table_value = 0, {}
  local function f() return value, table_value[1] end
  local results = {}
  for i = 1, 60 do
    value, table_value[1] = i, i
    results[i] = i % 8 ~= 0 and pool:apply_async(f)
      or pool:map_async(function() return f() end, { 1, 2, 3, 4 })
  end
  for i, result in ipairs(results) do
    if i % 8 ~= 0 then
      t.equal({ result:get() }, { i, i })
    else
      t.equal(result:get(), { i, i, i, i, n = 4 })
    end
  end
end

tests["an unchanged function is sent once, whatever it reaches"] = function()
  local pool <close> = fz.pool(1)
  pool:apply(math.abs, 1)
  local count, memo, big = 0, {}, t.numbers(1000)
  local point = setmetatable({ 1, { 2 } }, Point)
  local box = setmetatable({}, Box)
  hidden[box] = { 1 }
  local function f(key)
    count = count + 1
    memo[key] = (memo[key] or 0) + #big + #point + #hidden[box]
    return count, memo[key]
  end
  for i = 1, 5 do t.equal({ pool:apply(f, "a") }, { i, i * 1003 }) end
end

tests["a change of one upvalue leaves what a worker has in the others"] = function()
  local pool <close> = fz.pool(1)
  for _ = 1, 2 do
    local count, scale, settings = 0, 1, { add = 0 }
    local function add() count = count + 1 end
    local function f()
      add()
      return count * scale + settings.add
    end
    t.equal(pool:apply(f), 1)
    t.equal(pool:apply(f), 2)
    scale = 100
    t.equal(pool:apply(f), 300)
    settings.add = 5
    t.equal(pool:apply(f), 405)
    count = 10 -- set by the script: that counts
    t.equal(pool:apply(f), 1105)
  end
end

-- ---- what is shared ---------------------------------------------------------

-- Functions that share one upvalue: read it, set it.
local function shared(value)
  return function() return value end, function(v) value = v end,
    function() return value, "another" end
end

tests["functions share in a worker what they share in the script"] = function()
  for _, used in ipairs { false, true } do
    local pool <close> = fz.pool(1)
    if used then pool:apply(math.abs, 1) end
    local get, set, again = shared(1)
    t.equal(pool:apply(get), 1)
    pool:apply(set, 2)
    t.equal({ pool:apply(again) }, { 2, "another" })
    t.equal(pool:apply(get), 2)
    t.equal(get(), 1)
    set(3)
    for _, f in ipairs { again, get } do t.equal((pool:apply(f)), 3) end
    pool:apply(set, 4)
    t.equal(pool:map(get, { 1, 2 }), { 4, 4, n = 2 })
  end
end

tests["what init sets is there for every function, in every worker"] = function()
  for by, route in pairs(routes) do
    for _, here in ipairs { false, true } do
      local _ <close> = here and t.in_this_process()
      local connection
      local settings = { deep = {} }
      local function open() connection, settings.deep.open = "open", "deep" end
      local pool <close> = fz.pool { workers = 2, max_tasks = 7, init = function() open() end }
      local function first() return connection end
      for i = 1, 40 do
        local f = i % 4 == 0 and first
          or i % 4 == 1 and function() return connection, i end
          or i % 4 == 2 and function() return first() end
          or function() return settings.deep.open == "deep" and "open" end
        if route(pool, f) ~= "open" then error(("%s, function %d"):format(by, i)) end
      end
    end
  end
end

tests["init runs again in a worker that replaces another, with the values of that moment"] =
function()
  local connection, base = nil, 1
  local pool <close> = fz.pool { workers = 1, init = function() connection = base * 10 end }
  local function get() return connection end
  t.equal(pool:apply(get), 10)
  base = 2
  t.equal(pool:apply(function() return connection, base end), 10)
  t.fails("crash", pool.apply, pool, kill_worker)
  t.equal({ pool:apply(function() return connection, base end) }, { 20, 2 })
  t.equal(pool:apply(get), 20)
end

tests["functions beyond those that a worker keeps share, too"] = function()
  local connection
  local pool <close> = fz.pool { workers = 2, init = function() connection = "open" end }
  pool:apply(math.abs, 1)
  local results = {}
  for i = 1, 300 do results[i] = pool:apply_async(function() return connection, i end) end
  for i, result in ipairs(results) do t.equal({ result:get() }, { "open", i }) end
end

tests["what cannot be sent is shared with functions that have it by the fork"] = function()
  local thread = coroutine.wrap(function() while true do coroutine.yield "next" end end)
  local file <close> = assert(io.tmpfile())
  local held = { file = file, name = "temporary" }
  local function first() return thread(), io.type(held.file) end
  local function second() return thread(), io.type(held.file), held.name end
  local pool <close> = fz.pool(2)
  t.equal({ pool:apply(first) }, { "next", "file" })
  for _ = 1, 3 do
    t.equal({ pool:apply(first) }, { "next", "file" })
    t.equal({ pool:apply(second) }, { "next", "file", "temporary" })
    t.equal(pool:map(second, { 1, 2, 3, 4 }), { "next", "next", "next", "next", n = 4 })
  end
  held.name = "changed" -- now it would have to be sent
  local e = t.fails("unsendable", pool.apply, pool, second)
  t.match(e.message, "the function: <upvalue held>.file", "a FILE* cannot be sent")
end

tests["one table in upvalues that came one by one stays one"] = function()
  local pool <close> = fz.pool(1)
  pool:apply(math.abs, 1)
  local list = {}
  local alias, holder = list, { list = list }
  t.equal(pool:apply(function() list.a = 1 return list.a end), 1)
  t.equal(pool:apply(function() alias.b = 2 return alias.b end), 2)
  t.equal(pool:apply(function() holder.list.c = 3 return holder.list.c end), 3)
  for _ = 1, 2 do
    t.equal({ pool:apply(function()
      list.d, alias.e, holder.list.f = 4, 5, 6
      return alias.d, holder.list.e, list.f
    end) }, { 4, 5, 6 })
  end
end

tests["two pools that share functions have workers with values of their own"] = function()
  local count = 0
  local function add() count = count + 1 return count end
  local one <close> = fz.pool(1)
  local two <close> = fz.pool(1)
  two:apply(math.abs, 1)
  t.equal({ one:apply(add), one:apply(add), two:apply(add) }, { 1, 2, 1 })
  t.equal(two:apply(function() return add() end), 2)
  count = 100
  t.equal({ one:apply(add), two:apply(add), one:apply(add) }, { 101, 101, 102 })
end

tests["a pool used in its own worker leaves the functions of that worker alone"] = function()
  local pool <close> = fz.pool(1)
  local value = 1
  local function inner() return value end
  local function outer()
    local results = {}
    for i = 1, 100 do -- more than a worker keeps
      value = i
      results[i] = pool:apply(inner) + pool:apply(function() return value end)
    end
    return results
  end
  local function double(x) return 2 * x end
  local expected = {}
  for i = 1, 100 do expected[i] = 2 * i end
  t.equal(pool:apply(outer), expected)
  t.equal(pool:apply(double, 4), 8)
  for _ = 1, 2 do
    t.equal(pool:map(function() return #outer() end, { 1 }), { 100, n = 1 })
    t.equal(pool:apply(double, 5), 10)
    t.equal(pool:apply(outer), expected)
  end
end

tests["cells are forgotten with the functions that had them"] = function()
  local pool <close> = fz.pool(1)
  pool:apply(math.abs, 1)
  local function call(n)
    for i = 1, n do
      local list = { i }
      t.equal(pool:apply(function() return list[1] end), i)
    end
    collectgarbage()
    collectgarbage()
    return collectgarbage "count", pool:apply(function()
      collectgarbage()
      return collectgarbage "count"
    end)
  end
  local here, there = call(2000)
  local here_now, there_now = call(10000)
  assert(here_now < here + 300, here_now - here)
  assert(there_now < there + 300, there_now - there)
end

-- ---- when workers are forked ------------------------------------------------

local function pause()
  local now = fz.now()
  while fz.now() < now + 0.003 do end
end

tests["all workers of a pool see the globals of its first call"] = function()
  for by, route in pairs {
    apply = function(pool, f) return pool:apply(f) end,
    map = function(pool, f) return pool:map(f, { 1 })[1] end,
    imap = function(pool, f) for _, value in pool:imap(f, { 1 }) do return value end end,
  } do
    global_of_a_test = { "first" } -- luacheck: ignore
    local pool <close> = fz.pool(4)
    t.equal(route(pool, function() return global_of_a_test[1] end), "first")
    global_of_a_test = { "second" } -- luacheck: ignore
    local got = pool:map(function()
      pause()
      return { core.pid(), global_of_a_test[1] }
    end, t.numbers(40), { chunksize = 1 })
    local pids = {}
    for i = 1, 40 do
      pids[got[i][1]] = true
      if got[i][2] ~= "first" then error(by .. ", " .. got[i][2]) end
    end
    assert(next(pids, next(pids)), "one worker did all")
    global_of_a_test = nil -- luacheck: ignore
  end
end

return tests
