-- The start method "spawn": a worker is a program of its own and inherits no memory.
local t = ...

local tests = {}

tests["a map, a fold, a chain and a pool give the same results with spawned workers"] = function()
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

tests["an fz.Error that a function returns is one"] = function()
  local pool <close> = fz.pool { workers = 1, start = "spawn" }
  local e = pool:apply(function()
    local a, b = fz.pipe()
    b:close()
    return select(2, pcall(a.send, a, 1))
  end)
  t.equal({ getmetatable(e) == fz.Error, e.kind }, { true, "closed" })
end

local APPLY <const> = [[
local pool <close> = fz.pool { workers = 1, start = "spawn" }
print(pcall(pool.apply, pool, function() return "done" end))]]

tests["FZLUA_WORKER_COMMAND names the command; one that cannot be started is an error"] = function()
  local script = t.file(APPLY)
  local out = t.shell("FZLUA_WORKER_COMMAND=$FZLUA $FZLUA " .. script)
  t.equal(out, "true\tdone\n")
  out = t.shell("FZLUA_WORKER_COMMAND=/nowhere/fzlua $FZLUA " .. script)
  t.match(out, "false", "cannot start the program '/nowhere/fzlua'", "WORKER_COMMAND may")
  out = t.shell("FZLUA_WORKER_COMMAND=/bin/true $FZLUA " .. script)
  t.match(out, "false", "workers die before they start a job")
end

tests["a worker of another version is refused"] = function()
  local other = t.file '#!/bin/sh\nshift 2; exec "$FZLUA" --worker 9.9.9 "$@"\n'
  os.execute("chmod +x " .. other)
  local out = t.shell(("FZLUA_WORKER_COMMAND=%s $FZLUA %s"):format(other, t.file(APPLY)))
  t.match(out, "false", "cannot start a worker", "the library of version 9.9.9")
end

tests["FZLUA_START is the default of all pools; another word is an error"] = function()
  local script = t.file [[
    MARK = true
    local r = fz.map(function() return MARK end, { 1 })
    print(r.n, r[1])]]
  t.equal((t.shell("FZLUA_START=spawn $FZLUA " .. script)), "1\tnil\n")
  t.equal((t.shell("FZLUA_START=fork $FZLUA " .. script)), "1\ttrue\n")
  local _, err, status = t.shell("FZLUA_START=thread $FZLUA " .. script)
  t.match(err, "FZLUA_START is 'thread', but must be fork or spawn")
  t.equal(status, 1)
end

tests["workers end with a process that is killed"] = function()
  local mark = t.mark()
  local script = t.file [[
    local pool = fz.pool { workers = 2, start = "spawn" }
    local sleep = function() os.execute "sleep 60" end
    pool:apply_async(sleep)
    pool:apply_async(function() while true do end end)
    pool:apply_async(sleep)
    fz.sleep(0.2)
    os.execute("kill -9 " .. fz.current_process().pid)]]
  local _, _, status = t.shell(("MARK=%s $FZLUA %s"):format(mark, script))
  t.equal(status, 137)
  t.equal(t.left_of(mark), "")
end

tests["a program that cannot be executed is an error, also under valgrind"] = function()
  local script = t.file [[
    print(pcall(fz.map, math.abs, { -1 }, { jobs = 1, start = "spawn" }))]]
  local valgrind = os.execute "valgrind --version >/dev/null 2>&1"
    and not os.getenv "FZLUA_VALGRIND" and not os.getenv "ASAN_OPTIONS"
  local function fails(program, under)
    local out, _, status = t.shell(("FZLUA_WORKER_COMMAND=%s %s $FZLUA %s"):format(
      program, under, script))
    t.equal({ status, out:sub(1, 5) }, { 0, "false" })
  end
  fails("/nowhere/fzlua", "")
  fails(script, "")
  if valgrind then
    fails("/nowhere/fzlua", "valgrind -q --log-file=/dev/null")
    local run = "FZLUA_WORKER_COMMAND=$FZLUA valgrind -q --log-file=/dev/null $FZLUA "
    t.match(t.shell(run .. script), "true\ttable")
  end
end

tests["limits, retries, seeds and output are those of forked workers"] = function()
  local function outcome(start)
    local pool <close> = fz.pool { workers = 2, start = start, seed = 7, on_error = "continue" }
    local r = pool:map(function(x)
      if x == 2 then return #("x"):rep(1 << 28) end
      if x == 3 then while true do end end
      if x == 4 then os.exit(3) end
      return math.random(1 << 40)
    end, { 1, 2, 3, 4, 5 }, { memory = "64M", timeout = 2, retries = 1 })
    local e = r.errors
    return { r[1], e[2].kind, e[3].kind, e[4].kind, e[4].attempt, r[5] }
  end
  t.equal(outcome "spawn", outcome "fork")
  local script = t.file [[
    local pool <close> = fz.pool { workers = 1, start = "spawn" }
    pool:apply(function() print "out" io.stderr:write "err\n" end)]]
  local out, err = t.shell("$FZLUA " .. script)
  t.equal({ out, err }, { "out\n", "err\n" })
end

tests["a worker that dies in a map costs one item, and no item runs twice"] = function()
  local path, list, counts = t.file "", {}, {}
  for i = 1, 400 do list[i] = i end
  local r = fz.map(function(x)
    local file <close> = io.open(path, "a")
    file:write(x, "\n")
    file:close()
    if x == 250 then os.execute "kill -9 $PPID" end
    return x
  end, list, { start = "spawn", jobs = 1, chunksize = 400, on_error = "continue" })
  for i in io.lines(path, "n") do counts[i] = (counts[i] or 0) + 1 end
  for i = 1, 400 do t.equal({ i, counts[i], r[i] }, { i, 1, i ~= 250 and i or nil }) end
  t.equal(r.errors[250].kind, "crash")
end

-- The item 301 lasts until its file exists, or until its worker is killed.
local BEHIND <const> = [[
local path = arg[1]
os.remove(path)
local function long()
  local n = 0
  repeat os.execute "sleep 0.02" n = n + 1 until io.open(path) or n == 1500
  return n < 1500
end
local function f(x)
  if x == 300 and not io.open(path) then error "300" end
  return x == 301 and long() or x
end
local items = {}
for i = 1, 302 do items[i] = i end
local ok, e = pcall(fz.map, f, items, {jobs = 1, chunksize = 302, on_error = "now"})
print(ok, e.index)
local pool <close> = fz.pool(1)
local function g(x) return x == 301 and long() or x end
for i, v in pool:imap(g, items, {chunksize = 302, inflight = 302}) do
  if i == 300 then io.open(path, "w"):close() end
  if i == 301 then print(v) end
end
]]

tests["results do not wait for a long item behind them, however workers start"] = function()
  for _, how in ipairs { "", "FZLUA_LINK=stream", "FZLUA_START=spawn" } do
    local out, err, status = t.shell(('FZLUA_WORKER_COMMAND="$FZLUA" %s "$FZLUA" %s %s'):format(how,
      t.file(BEHIND), t.file ""))
    t.equal({ out, err, status }, { "false\t300\ntrue\n", "", 0 })
  end
end

return tests
