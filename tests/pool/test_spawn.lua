-- The start method "spawn": a worker is a program of its own and inherits no memory.
local t = ...

local tests = {}

tests["a map, a fold, a chain and a pool give the same with spawned workers"] = function()
  local options = { start = "spawn", jobs = 2 }
  t.equal(fz.map(function(x) return x * x end, { 1, 2, 3 }, options), { 1, 4, 9, n = 3 })
  local sum = function(a, x) return a + x end
  t.equal(fz.fold(sum, { 1, 2, 3, 4 }, 0, sum, options), 10)
  local stage = fz.stage("S", { start = "spawn" })
  stage:register("B", "A", function(a) return a + 1 end)
  stage:register("C", "A", function(a) return a * 4 end)
  local chain <close> = fz.chain { stage }
  t.equal(chain:invoke({ A = 1 }).output.C, 4)
  local pool <close> = fz.pool { workers = 2, start = "spawn" }
  t.equal(table.pack(pool:apply(function(...) return ... end, 1, nil, "x")), { 1, nil, "x", n = 3 })
end

tests["init and exit share their upvalues with the functions of the pool"] = function()
  local path, opened = t.file "", nil
  do
    local pool <close> = fz.pool {
      workers = 1, start = "spawn", max_tasks = 2,
      init = function() opened = "open" end,
      exit = function()
        local file <close> = assert(io.open(path, "w"))
        file:write(opened, "\n")
      end,
    }
    local use = function(x) return opened .. x end
    t.equal(pool:map(use, { 1, 2 }), { "open1", "open2", n = 2 })
    t.until_true(function() return #io.open(path):read "a" > 0 end)
  end
  t.equal(io.open(path):read "a", "open\n")
  t.equal(opened, nil)
end

tests["a worker has the package paths and the directory of the script, and no globals"] = function()
  local _ <close> = setmetatable({ package.path }, {
    __close = function(self) package.path = self[1] end,
  })
  package.path = "/nowhere/?.lua;" .. package.path
  _G.SPAWN_TEST = true
  local pool <close> = fz.pool { workers = 1, start = "spawn" }
  t.equal(pool:apply(function() return package.path end), package.path)
  t.equal(pool:apply(function() return _G.SPAWN_TEST end), nil)
  t.equal(pool:apply(function() return io.popen("pwd"):read() end), io.popen("pwd"):read())
  _G.SPAWN_TEST = nil
end

tests["a missing global is explained"] = function()
  local pool <close> = fz.pool { workers = 1, start = "spawn" }
  local e = t.fails("error", pool.apply, pool, function() _ENV.spawn_test() end)
  t.match(e.message, "nil value (global 'spawn_test')", "a spawned worker has no globals")
  e = t.fails("error", fz.map, function() return _ENV.spawn_test.x end, { 1 }, { start = "spawn" })
  t.match(e.message, "a spawned worker has no globals")
end

tests["what cannot be sent is an error of the call that needs it"] = function()
  local file <close> = assert(io.open "/dev/null")
  local pool <close> = fz.pool { workers = 1, start = "spawn" }
  local e = t.fails("unsendable", pool.apply, pool, function() return file end)
  t.match(e.message, "<upvalue file>")
  t.equal(pool:apply(function() return 1 end), 1)
  local broken <close> = fz.pool { workers = 1, start = "spawn", init = function() file:read() end }
  e = t.fails("unsendable", broken.apply, broken, function() return 1 end)
  t.match(e.message, "<upvalue file>")
end

tests["queues, locks and values are shared with spawned workers, at any depth"] = function()
  local queue, lock, value = fz.queue(), fz.lock(), fz.value("j", 0)
  local count = function(x)
    lock:acquire()
    value.value = value.value + x
    lock:release()
    queue:put(x)
  end
  local pool <close> = fz.pool { workers = 2, start = "spawn" }
  pool:map(function(x)
    count(x)
    local inner <close> = fz.pool { workers = 1, start = "spawn" }
    inner:apply(count, 10 * x)
  end, { 1, 2, 3 })
  t.equal(value.value, 66)
  local sum = 0
  for _ = 1, 6 do sum = sum + queue:get(10) end
  t.equal(sum, 66)
end

tests["a pipe ends when the worker that has its other end is gone"] = function()
  local own, other = fz.pipe()
  local pool <close> = fz.pool { workers = 1, start = "spawn" }
  pool:apply(function() other:send "x" end)
  other:close()
  t.equal(own:recv(10), "x")
  pool:close()
  t.equal({ own:recv(10) }, { nil, "closed" })
end

tests["registered classes are those of the script"] = function()
  local Point = { __name = "test_spawn.Point" }
  Point.__index = Point
  Point.__add = function(a, b) return setmetatable({ x = a.x + b.x }, Point) end
  function Point:double() return self + self end
  fz.register_class("test_spawn.Point", Point)
  local pool <close> = fz.pool { workers = 1, start = "spawn" }
  local p = pool:apply(function(p) return p:double() end, setmetatable({ x = 4 }, Point))
  t.equal({ p.x, getmetatable(p) == Point }, { 8, true })
end

return tests
