-- test_pool_values.lua - a call sees the values that the script had when it made the call.

local t = ...
local core = require "fzlua.core"

local tests = {}

local Plain = fz.register_class("test_pool_values.Plain", { __name = "Plain" })
local Packed = fz.register_class("test_pool_values.Packed", {
  __fzpack = function(object) return object.v end,
})
function Packed.__fzunpack(v) return setmetatable({ v = v }, Packed) end

-- Each method that calls f in a worker; f ignores its arguments.
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
    local last
    for _, value in pool:imap_unordered(f, { 1 }) do last = value end
    return last
  end,
}

-- A class whose objects are sent by __fzpack. Their contents are in a table outside the object.
local hidden = setmetatable({}, { __mode = "k" })
local Hidden = fz.register_class("test_pool_values.Hidden", {
  __fzpack = function(object) return hidden[object] end,
})
function Hidden.__fzunpack(value)
  local box = setmetatable({}, Hidden)
  hidden[box] = value
  return box
end

Hidden.__index = { get = function(box) return hidden[box] end }

local function kill_worker()
  os.execute("kill -9 " .. core.pid())
end

-- Places where a function may find a value. Each returns a function that reads the value, and one
-- that sets it.
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
  local object = setmetatable({}, Plain)
  return function() return getmetatable(object) == Plain and object.x end,
    function(v) object.x = v end
end

worlds["what an object is packed into"] = function()
  local box = setmetatable({}, Hidden)
  return function() return hidden[box] end, function(v) hidden[box] = v end
end

worlds["what an object is packed into, read by a method"] = function()
  local box = setmetatable({}, Hidden)
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
  local value = nil
  local function f() return value end
  return f, function(v)
    local other = function() return v end
    debug.upvaluejoin(f, 1, other, 1)
  end
end

worlds["a helper whose upvalue is joined with another"] = function()
  local value = nil
  local function helper() return value end
  return function() return helper() end, function(v)
    debug.upvaluejoin(helper, 1, function() return v end, 1)
  end
end

-- A function can distinguish each of these values from the one before it.
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

-- Pools whose workers inherit a function or get it as a message, and workers that start later.
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
  local object = setmetatable({ 1, { 2 } }, Plain)
  local box = setmetatable({}, Hidden)
  hidden[box] = { 1 }
  local function f(key)
    count = count + 1
    memo[key] = (memo[key] or 0) + #big + #object + #hidden[box]
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
    count = 10 -- a value that the script sets replaces that of the worker
    t.equal(pool:apply(f), 1105)
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

-- The next tests make random functions with upvalues, tables and other functions, which the script
-- changes between the calls.

local DEPTH <const> = 5

-- Append the contents of a value to `out`, down to a depth.
local function show(value, out, depth)
  if type(value) == "function" then
    out[#out + 1] = "f("
    if depth < DEPTH then value(out, depth + 1) end
    out[#out + 1] = ")"
  elseif type(value) ~= "table" then
    out[#out + 1] = (math.type(value) or type(value)) .. ":" .. tostring(value)
  else
    out[#out + 1] = "{" .. (getmetatable(value) == Plain and "Plain" or "")
    for i = 1, depth < DEPTH and 4 or 0 do show(value[i], out, depth + 1) end
    show(value.v, out, depth + 1)
    out[#out + 1] = "}"
  end
end

-- A variable, which is the first upvalue of `holder`.
local function new_cell(value)
  return {
    holder = function() return value end,
    set = function(v) value = v end,
  }
end

local World = {}
World.__index = World

local function pick(list) return list[math.random(#list)] end

function World:join(f)
  for i = 1, 4 do
    local name = debug.getupvalue(f, i)
    if name == "a" or name == "b" or name == "c" then
      debug.upvaluejoin(f, i, pick(self.cells).holder, 1)
    end
  end
end

function World:new_function()
  local a, b, c = nil, nil, nil
  local f = pick {
    function(...) show(a, ...) end,
    function(...) show(a, ...) show(b, ...) end,
    function(...) show(c, ...) show(a, ...) show(b, ...) end,
    function(...) show({ a, b }, ...) end,
  }
  self:join(f)
  return f
end

function World:value()
  local kind = math.random(10)
  if kind <= 3 then return math.random(5) end
  if kind == 4 then return math.random(2) * 0.5 end
  if kind == 5 then return "s" .. math.random(3) end
  return kind <= 8 and pick(self.tables) or pick(self.functions)
end

function World:change()
  local kind = math.random(12)
  local table, place = pick(self.tables), math.random(4)
  if kind <= 4 then
    pick(self.cells).set(self:value())
  elseif kind <= 8 and getmetatable(table) == Packed then
    table.v = math.random(9)
  elseif kind <= 8 then
    table[place] = math.random(4) > 1 and self:value() or nil
  elseif kind == 9 then
    self.tables[math.random(3, #self.tables)] = {}
  elseif kind == 10 then
    self.functions[math.random(#self.functions)] = self:new_function()
  elseif kind == 11 then
    self:join(pick(self.functions))
  else
    collectgarbage()
  end
end

local function new_world()
  local world = setmetatable({ cells = {}, functions = {} }, World)
  for i = 1, 8 do world.cells[i] = new_cell() end
  world.tables = { setmetatable({}, Plain), setmetatable({ v = 1 }, Packed) }
  for i = 3, 10 do world.tables[i] = {} end
  for i = 1, 8 do world.functions[i] = world:new_function() end
  for _, cell in ipairs(world.cells) do cell.set(world:value()) end
  return world
end

-- The function that a pool calls to show the values that f reaches.
local function new_job(f)
  return function()
    local out = {}
    f(out, 0)
    return table.concat(out, " ")
  end
end

local ways = {
  function(pool, job) return pool:apply(job) end,
  function(pool, job) return pool:map(job, { 1, 2, 3 })[3] end,
  function(pool, job) return pool:apply_async(job) end,
  function(pool, job) return pool:apply_async(job) end,
  function(pool, job) return pool:map_async(job, { 1, 2, 3 }, { chunksize = 1 }) end,
}

-- Make `n` calls, and read the results of some of them only at the end.
local function run(seed, n)
  math.randomseed(seed)
  local world, jobs = new_world(), setmetatable({}, { __mode = "k" })
  local first = world.cells[1].holder
  local pool <close> = fz.pool {
    workers = math.random(3),
    init = math.random(2) == 1 and function() first() end or nil,
  }
  if math.random(2) == 1 then pool:apply(math.abs, 1) end
  local held = {}
  local function check(got, expected)
    if type(got) == "table" then got = got[2] end
    if got ~= expected then
      error(("seed %d:\n     got %s\nexpected %s"):format(seed, got, expected), 0)
    end
  end
  for _ = 1, n do
    for _ = 1, math.random(0, 2) do world:change() end
    local f = pick(world.functions)
    jobs[f] = jobs[f] or new_job(f)
    local expected = jobs[f]()
    local got = pick(ways)(pool, jobs[f])
    if type(got) == "string" then
      check(got, expected)
    else
      held[#held + 1] = { got, expected }
    end
    while #held > 100 or #held > 0 and math.random(4) == 1 do
      local call = table.remove(held, 1)
      check(call[1]:get(60), call[2])
    end
  end
  for _, call in ipairs(held) do check(call[1]:get(60), call[2]) end
end

tests["each call sees the script as it was when it was made"] = function()
  for seed = 1, t.rounds(60) do run(seed, 150) end
end

tests["more calls wait than a worker keeps functions"] = function()
  math.randomseed(7)
  local world = new_world()
  local pool <close> = fz.pool(2)
  pool:apply(math.abs, 1)
  local held = {}
  for i = 1, 500 do
    world:change()
    local job = new_job(pick(world.functions))
    held[i] = { pool:apply_async(job), job() }
  end
  for _, call in ipairs(held) do t.equal(call[1]:get(60), call[2]) end
end

-- A worker that is forked after a call inherits other values than those of the call, which are
-- therefore sent.
tests["calls keep their values whatever workers are replaced while they wait"] = function()
  for _, used in ipairs { false, true } do
    for _, max_tasks in ipairs { 1, 3 } do
      local pool <close> = fz.pool { workers = 2, max_tasks = max_tasks }
      if used then pool:apply(math.abs, 1) end
      local count, list = 0, { 0 }
      local function helper() return list[1] end
      local function f() return count, helper() end
      local results = {}
      for i = 1, 40 do
        count, list[1] = i, i
        results[i] = pool:apply_async(f)
      end
      for i, result in ipairs(results) do t.equal({ result:get(60) }, { i, i }) end
    end
  end
end

tests["calls keep their values while workers are killed"] = function()
  local pool <close> = fz.pool(2)
  pool:apply(math.abs, 1)
  local value = 0
  local function f() return value end
  local function die() os.execute("kill -9 " .. fz.current_process().pid) end
  local results = {}
  for i = 1, 120 do
    value = i
    results[i] = pool:apply_async(f, {}, { retries = 20 })
    if i % 10 == 0 then pool:apply_async(die) end
  end
  for i, result in ipairs(results) do t.equal(result:get(60), i) end
end

tests["a map that is under way keeps the values of its call"] = function()
  local pool <close> = fz.pool(2)
  local go = fz.event()
  local scale, config = 1, { add = 1 }
  local function f(i)
    go:wait(30)
    return i * scale + config.add
  end
  t.equal(pool:apply(math.abs, 1), 1)
  local result = pool:map_async(f, t.numbers(200), { chunksize = 1 })
  scale, config.add = 10, 20
  go:set()
  t.equal(pool:apply(f, 1), 30)
  for i, v in ipairs(result:get(60)) do t.equal(v, i + 1) end
end

tests["a table that is one upvalue and in another stays one table"] = function()
  for _, used in ipairs { false, true } do
    local part = {}
    local pool <close> = fz.pool { workers = 2, init = function() part.conn = "open" end }
    if used then pool:apply(math.abs, 1) end
    local whole = { part = part, n = 0 }
    local deep = { { whole = whole } }
    local alias = part
    local function f()
      part.seen = (part.seen or 0) + 1
      return whole.part == part and alias == part and deep[1].whole == whole, whole.n,
        whole.part.seen == part.seen, part.conn
    end
    local function g() return deep[1].whole.part.conn, whole.n end
    for i = 0, 5 do
      whole.n = i
      t.equal(pool:map(f, { 1, 2, 3, 4 }, { chunksize = 1 }).n, 4)
      t.equal({ pool:apply(f) }, { true, i, true, "open" })
      t.equal({ pool:apply(g) }, { "open", i })
    end
  end
end

local Caller = fz.register_class("test_pool_values.Caller", {
  __fzpack = function(object) return object.call() end,
})
function Caller.__fzunpack(v) return setmetatable({ v = v }, Caller) end

tests["a packer that uses the pool gets its own function, and the call gets its"] = function()
  for _, used in ipairs { false, true } do
    local pool <close> = fz.pool(1)
    if used then pool:apply(math.abs, 1) end
    local function g() return "g" end
    local object = setmetatable({ call = function() return pool:apply(g) end }, Caller)
    local function f() return "f", object.v end
    for _ = 1, 3 do
      if used then t.equal({ pool:apply(f) }, { "f", "g" }) end
      t.equal(pool:apply(g), "g")
    end
  end
end

tests["finalizers that use the pool leave the calls alone in which they come"] = function()
  local pool <close> = fz.pool(2)
  pool:apply(math.abs, 1)
  local bad, count = 0, 0
  local function g() return "g" end
  local function arm()
    setmetatable({}, { __gc = function()
      count = count + 1
      local ok, got = pcall(pool.apply, pool, g)
      if ok and got ~= "g" then bad = bad + 1 end
    end })
  end
  local mode = collectgarbage("incremental", 100, 400)
  for i = 1, t.rounds(400) do
    local functions = {}
    for k = 1, 30 do functions[k] = function() return k + i end end
    arm()
    local function h() return functions[30]() end
    if pool:apply(h) ~= 30 + i or pool:apply(g) ~= "g" then bad = bad + 1 end
  end
  collectgarbage(mode)
  collectgarbage()
  assert(bad == 0 and count > 0, bad)
end

tests["a call that waits finds what was inherited, after a later call brought another"] = function()
  local pool <close> = fz.pool(2)
  local list, small = t.numbers(1000), { 1 }
  pool:apply(function() return list[1], small[1] end)
  local go = { fz.event(), fz.event() }
  for i = 1, 2 do pool:apply_async(function() return go[i]:wait(30) end) end
  local first = pool:apply_async(function() return list[1], small[1] end)
  list[1], small[1] = 2, 2
  local second = pool:apply_async(function() return list[1], small[1] end)
  go[1]:set() -- frees one worker, which then makes both calls
  t.equal({ first:get(30) }, { 1, 1 })
  t.equal({ second:get(30) }, { 2, 2 })
  go[2]:set()
end

tests["imap sees what there was at its call, whatever its source changes"] = function()
  for _, n in ipairs { 1, 20000 } do
    local list = t.numbers(n)
    local pool <close> = fz.pool(2)
    local i = 0
    for _, v in pool:imap(function() return list[1] end, function()
      list[1], i = 99, i + 1
      return i <= 20 and i or nil
    end) do t.equal(v, 1) end
  end
end

tests["one function may wait in more calls than a worker keeps functions"] = function()
  local pool <close> = fz.pool(2)
  pool:apply(math.abs, 1)
  local value = 0
  local function f(x) return value, x end
  local results, sums = {}, {}
  for i = 1, 150 do
    value = i
    results[i] = pool:map_async(f, { 1, 2, 3 }, { chunksize = i % 3 + 1 })
  end
  for i, result in ipairs(results) do t.equal(result:get(60), { i, i, i, n = 3 }) end
  for i = 1, 70 do
    value = i
    sums[i] = pool:imap(f, { {}, 2, "3" })
  end
  for i, it in ipairs(sums) do
    for _, v in it do t.equal(v, i) end
  end
end

tests["a function that is called again after many others finds the values that it has set"] =
function()
  local pool <close> = fz.pool(1)
  local count, file <close> = 0, assert(io.tmpfile())
  local function next_count()
    count = count + 1
    return count, io.type(file)
  end
  local late = 0
  local function next_late()
    late = late + 1
    return late
  end
  for round = 1, 4 do
    t.equal({ pool:apply(next_count) }, { round, "file" })
    for i = 1, 2 do t.equal(pool:apply(next_late), 2 * round + i - 2) end
    for i = 1, 100 do pool:apply(function() return i end) end
    collectgarbage()
  end
end

tests["weak tables in upvalues are cleared"] = function()
  local pool <close> = fz.pool(1)
  local cache = setmetatable({}, { __mode = "k" })
  local function f(i)
    local n = 0
    for _ in pairs(cache) do n = n + 1 end
    return n > 0 and i
  end
  for i = 1, 500 do
    local key <const> = function() return i end
    cache[key] = i
    t.equal(pool:apply(f, i), i)
  end
  collectgarbage()
  collectgarbage()
  local n = 0
  for _ in pairs(cache) do n = n + 1 end
  assert(n < 20, n)
end

tests["reading a table is no change of it"] = function()
  local pool <close> = fz.pool(1)
  local list = table.move(t.numbers(16), 1, 16, 1, {})
  local box = { list = list, hits = 0 }
  for i = 10, 16 do list[i] = nil end
  local _ = #list
  for i = 10, 12 do list[i] = i end
  local function f()
    box.hits = box.hits + 1
    return box.hits
  end
  for i = 1, 3 do
    t.equal(pool:apply(f), i)
    _ = #list
  end
end

return tests
