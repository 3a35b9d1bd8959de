-- test_functions.lua - the functions of a pool: what workers see of their upvalues, and when.

local t = ...
local core = require "fzlua.core"

local tests = {}

local function kill_worker()
  os.execute("kill -9 " .. core.pid())
end

local both = t.both_pools

tests["a change in a table is seen, however deep and behind functions in tables"] = function()
  both(2, function(pool)
    local config = { level = { [2] = { name = "a" } } }
    local module = { get = function() return config.level[2].name end }
    local function job() return module.get() end
    t.equal(pool:apply(job), "a")
    config.level[2].name = "b"
    t.equal(pool:apply(job), "b")
    t.equal(pool:map(job, { 1, 2, 3, 4 }, { chunksize = 1 }), { "b", "b", "b", "b", n = 4 })
    config.level[2] = { name = "c" }
    t.equal(pool:apply_async(job):get(), "c")
    config.level = setmetatable({ [2] = { name = "d" } }, {})
    for _, v in pool:imap(job, { 1, 2, 3 }) do t.equal(v, "d") end
    module.get = function() return "e" end
    t.equal(pool:starmap(job, { {}, {} })[2], "e")
  end)
end

tests["each kind of value is compared as it is"] = function()
  both(1, function(pool)
    local v, box = nil, {}
    local function job() return v, box.v, math.type(v), v == 0 and 1 / v or 0 end
    local values = { 1, 1.0, 0.0, -0.0, 0, true, "1", "1\0", "12345678", "12345679",
      ("x"):rep(100), 2 ^ 53, math.mininteger, false }
    pool:apply(job)
    for _, value in ipairs(values) do
      v, box.v = value, value
      local a, b, kind, inverse = pool:apply(job)
      t.equal({ a, b, kind }, { value, value, math.type(value) })
      t.equal(inverse, value == 0 and 1 / value or 0)
    end
    v = 0 / 0
    local a = pool:apply(job)
    assert(a ~= a)
  end)
end

tests["an upvalue of a hundred functions and a list of ten thousand tables"] = function()
  both(2, function(pool)
    local value = 1
    local job = function() return value end
    for _ = 1, 100 do
      local inner = job
      job = function() return inner() end
    end
    t.equal(pool:apply(job), 1)
    value = 2
    t.equal(pool:apply(job), 2)
    local list, last = {}, nil
    for _ = 1, 10000 do
      list = { next = list }
      last = last or list.next
    end
    local function deepest()
      local at = list
      while at.next do at = at.next end
      return at.v
    end
    if pool:apply(deepest) ~= nil then error("it had a value") end
    last.v = "here"
    t.equal(pool:apply(deepest), "here")
  end)
end

tests["a value that one function has sent to a worker is sent to others with another function"] =
function()
  both(3, function(pool)
    local value = 1
    local function get() return value end
    local function more() return value + 100 end
    local one = { n = 12 }
    for i = 1, 12 do one[i] = i end
    t.equal(pool:map(get, one, { chunksize = 1 })[12], 1)
    for round = 2, 5 do
      value = round
      t.equal(pool:apply(more), round + 100)
      for _, got in ipairs(pool:map(get, one, { chunksize = 1 })) do t.equal(got, round) end
    end
  end)
end

tests["debug.upvaluejoin and setupvalue are changes"] = function()
  both(1, function(pool)
    local a, b = 1, 2
    local function first() return a end
    local function second() return b end
    t.equal(pool:apply(first), 1)
    debug.setupvalue(first, 1, 3)
    t.equal(pool:apply(first), 3)
    debug.upvaluejoin(first, 1, second, 1)
    t.equal(pool:apply(first), 2)
  end)
end

tests["a change to what cannot be sent is an error until it is mended"] = function()
  local pool <close> = fz.pool(2)
  local file <close> = assert(io.tmpfile())
  local log = { file = file, lines = 0 }
  local function job() return io.type(log.file), log.lines end
  t.equal({ pool:apply(job) }, { "file", 0 }) -- the worker has inherited `log` by its fork
  log.lines = 1
  local e = t.fails("unsendable", pool.apply, pool, job)
  t.match(e.message, "the function: <upvalue log>.file: a FILE* cannot be sent")
  log.file = "name"
  local kind, lines = pool:apply(job)
  t.equal({ tostring(kind), lines }, { "nil", 1 })
end

tests["a file that is an upvalue, and a module, are no reason to send a function"] = function()
  local pool <close> = fz.pool(1)
  local file <close> = assert(io.tmpfile())
  local lib, mine = string, setmetatable({}, { __fzpack = false })
  local box = { file, mine, lib, pool }
  local function job()
    mine.text = "worker"
    return io.type(box[1]), lib.rep("x", 2), mine.text
  end
  for i = 1, 100 do
    mine[i] = i -- a function that is not sent does not see this change
    t.equal({ pool:apply(job) }, { "file", "xx", "worker" })
  end
end

tests["functions that are sent later find what init has opened, inside tables too"] = function()
  for _, workers in ipairs { 1, 2 } do
    local db, open
    local pool <close> = fz.pool {
      workers = workers,
      init = function() db, open = { rows = { 7 } }, io.tmpfile() end,
    }
    local lib = {}
    function lib.get() return db.rows[1], io.type(open) end
    local function first() return lib.get() end
    local function second() return lib.get() end
    t.equal({ pool:apply(first) }, { 7, "file" })
    t.equal({ pool:apply(second) }, { 7, "file" })
    for _ = 1, 3 do
      local function third() return db.rows[1] end
      t.equal(pool:map(third, { 1, 2, 3, 4 }, { chunksize = 1 }), { 7, 7, 7, 7, n = 4 })
    end
    db = { rows = { 8 } } -- the script sets the variable, so its value is sent
    t.equal(select("#", pool:apply(second)), 2)
    t.equal((pool:apply(second)), 8)
  end
end

tests["init is shared where workers were there before any function"] = function()
  local db
  local pool <close> = fz.pool { workers = 2, init = function() db = io.tmpfile() end }
  t.equal(#pool.workers, 2)
  for _ = 1, 3 do
    t.equal(pool:map(function() return io.type(db) end, { 1, 2, 3, 4 }, { chunksize = 1 }),
      { "file", "file", "file", "file", n = 4 })
  end
end

tests["functions that came later share what they count, in upvalues and tables"] = function()
  both(1, function(pool)
    pool:apply(type, 1)
    local count, stock = 0, { n = 0 }
    local function put(n) count, stock.n = count + n, stock.n + n end
    local function get() return count, stock.n end
    pool:apply(put, 2)
    pool:apply(put, 3)
    t.equal({ pool:apply(get) }, { 5, 5 })
    count = 100
    t.equal((pool:apply(get)), 100)
    pool:apply(put, 1)
    t.equal((pool:apply(get)), 101)
  end)
end

tests["what has not changed is not sent again: tables keep what is put there"] = function()
  local pool <close> = fz.pool(1)
  local known, late = {}, {}
  local function remember(x)
    known[#known + 1] = x
    return #known
  end
  for i = 1, 3 do t.equal(pool:apply(remember, i), i) end
  local function later(x)
    late[#late + 1] = x
    return #late
  end
  for i = 1, 3 do t.equal(pool:apply(later, i), i) end
  local function reset() known = {} end
  pool:apply(reset)
  t.equal(pool:apply(remember, 1), 1)
end

tests["a value that cannot be sent is shared by functions that come after the fork"] = function()
  local file <close> = assert(io.tmpfile())
  local value = 1
  local function helper() return value, io.type(file) end
  local pool <close> = fz.pool(2)
  t.equal({ pool:apply(function() return helper() end) }, { 1, "file" })
  for i = 2, 4 do
    value = i -- an upvalue of helper(), which the workers keep
    local function job() return helper() end
    t.equal({ pool:apply(job) }, { i, "file" })
    t.equal(pool:map(function() return (helper()) end, { 1, 2, 3 }), { i, i, i, n = 3 })
  end
end

tests["functions that are their own upvalues, and each other's"] = function()
  both(2, function(pool)
    local n = 3
    local function down(x) return x == 0 and n or down(x - 1) end
    local even, odd
    function even(x) return x == 0 and n or odd(x - 1) end
    function odd(x) return x == 0 and -n or even(x - 1) end
    for i = 3, 5 do
      n = i
      t.equal({ pool:apply(down, 2), pool:apply(even, 3), pool:apply(odd, 3) }, { i, -i, i })
    end
  end)
end

tests["a thousand functions, of which a pool keeps few, leave no upvalue behind"] = function()
  local pool <close> = fz.pool(2)
  local base <const>, weak = { 0 }, setmetatable({}, { __mode = "k" })
  for i = 1, 1000 do
    local own = { i }
    weak[own] = true
    base[1] = i // 100
    t.equal(pool:apply(function() return base[1] + own[1] end), base[1] + i)
  end
  collectgarbage()
  collectgarbage()
  local n = 0
  for _ in pairs(weak) do n = n + 1 end
  assert(n <= 65, n) -- 64 that were sent, and the first one, which is inherited
end

tests["workers that are killed or worn out are replaced by others that share"] = function()
  local conn
  local function init() conn = (conn or 0) + 1 end
  local pool <close> = fz.pool { workers = 2, max_tasks = 3, init = init }
  for i = 1, 20 do
    t.equal(pool:apply(function() return conn + i end), 1 + i)
    if i % 5 == 0 then
      t.fails("crash", pool.apply, pool, function()
        os.execute("kill -9 " .. fz.current_process().pid)
      end)
    end
  end
end

tests["two pools have the same functions and do not mix their upvalues"] = function()
  local value = 1
  local function add(n)
    value = value + n
    return value
  end
  local one <close> = fz.pool(1)
  t.equal(one:apply(add, 1), 2)
  local other <close> = fz.pool(1)
  t.equal({ other:apply(add, 10), one:apply(add, 1) }, { 11, 3 })
  value = 50
  t.equal({ other:apply(add, 10), one:apply(add, 1) }, { 60, 51 })
end

tests["a worker that uses its own pool leaves the functions that it serves alone"] = function()
  local pool <close> = fz.pool(2)
  local function outer(i)
    local sum = 0
    for k = 1, 3 do sum = sum + pool:apply(function() return k * i end) end
    return sum
  end
  local function other(i) return i end
  for _ = 1, 3 do
    t.equal(pool:map(outer, { 1, 2, 3, 4 }, { chunksize = 1 }), { 6, 12, 18, 24, n = 4 })
    t.equal(pool:map(other, { 1, 2, 3, 4 }, { chunksize = 1 }), { 1, 2, 3, 4, n = 4 })
  end
end

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
  held.name = "changed"  -- now `held` must be sent, together with its file
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

tests["a pool used in its own worker leaves the functions of that worker alone"] = function()
  local pool <close> = fz.pool(1)
  local value = 1
  local function inner() return value end
  local function outer()
    local results = {}
    for i = 1, 100 do -- more functions than a worker keeps
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
  local here, there = call(10000) -- warm up: the heaps reach their usual size
  local here_now, there_now = call(10000)
  assert(here_now < here + 300, here_now - here)
  assert(there_now < there + 300, there_now - there)
end

tests["all workers of a pool see the globals of its first call"] = function()
  local pool <close> = fz.pool(3)
  _G.fz_test_global = 1
  local queue, go = fz.queue(), fz.event()
  local function job()
    queue:put(true)
    go:wait()
    return _G.fz_test_global
  end
  pool:apply(type, 1)
  local results = {}
  for i = 1, 3 do
    _G.fz_test_global = i + 1
    results[i] = pool:apply_async(job)
  end
  for _ = 1, 3 do queue:get(30) end -- all three jobs run, each in a worker of its own
  go:set()
  _G.fz_test_global = nil
  for i = 1, 3 do t.equal(results[i]:get(30), 1) end
end

-- After a class is replaced, another table may get the address of the class.
tests["a change is seen in tables that lie where a class was that lost its name"] = function()
  local pool <close> = fz.pool(1)
  for _ = 1, 300 do fz.register_class("test.replaced", { {} }) end
  fz.register_class("test.replaced", {})
  collectgarbage()
  collectgarbage()
  local boxes = {}
  for i = 1, 600 do boxes[i] = { 1 } end
  local function sum()
    local n = 0
    for i = 1, #boxes do n = n + boxes[i][1] end
    return n
  end
  t.equal(pool:apply(sum), 600)
  for i = 1, #boxes do
    boxes[i][1] = 2
    t.equal(pool:apply(sum), 600 + i)
  end
end

return tests
