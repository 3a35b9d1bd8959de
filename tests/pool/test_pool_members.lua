-- test_pool_members.lua - a pool's workers: their numbers, their exit function, their idle time.

local t = ...
local fz = require "fzlua"

local tests = {}

local function number()
  return fz.current_process().worker
end

-- Handle events of the engine until f() is true.
local function await(f)
  local q, deadline = fz.queue(), fz.now() + 30
  while not f() do
    t.equal(fz.now() < deadline, true)
    q:get(0.02)
  end
end

-- The number of workers of the pool. Unlike pool.workers, this forks none.
local function living(pool)
  return #pool._core:workers()
end

local function sorted(list)
  table.sort(list)
  return list
end

-- All items of a queue, sorted.
local function contents(queue)
  local list = {}
  local ok, v = queue:try_get()
  while ok do
    list[#list + 1] = v
    ok, v = queue:try_get()
  end
  return sorted(list)
end

tests["workers of a pool have numbers from 1, and the script has none"] = function()
  local barrier = fz.barrier(3)
  local pool <close> = fz.pool(3)
  local numbers = pool:map(function()
    barrier:wait(30)
    return number()
  end, { 1, 2, 3 }, { chunksize = 1 })
  t.equal(sorted(numbers), { 1, 2, 3, n = 3 })
  t.equal(number(), nil)
end

tests["a worker that takes the place of another gets its number"] = function()
  local pool <close> = fz.pool(2)
  local pids = pool:map(function() return fz.current_process().pid end, { 1 })
  local dead = pids[1]
  t.shell("kill -9 " .. dead)
  await(function()
    for _, pid in ipairs(pool._core:workers()) do
      if pid == dead then return false end
    end
    return true
  end)
  local barrier = fz.barrier(2)
  local numbers = pool:map(function()
    barrier:wait(30)
    return number()
  end, { 1, 2 }, { chunksize = 1 })
  t.equal(sorted(numbers), { 1, 2, n = 2 })
end

tests["workers of stages and single maps have numbers, too"] = function()
  local stage = fz.stage { name = "s", workers = 1 }
  stage:register("n", { "x" }, function() return number() end)
  local chain = fz.chain { stage }
  t.equal(chain({ x = 1 }).n, 1)
  chain:close()
  t.equal(fz.map(number, { 1 }, { jobs = 1 }), { 1, n = 1 })
end

tests["exit is called once in each worker that made a call"] = function()
  local q, connection = fz.queue(), nil
  local function init() connection = "connection " .. number() end
  local barrier = fz.barrier(2)
  local pool = fz.pool { workers = 2, init = init, exit = function() q:put(connection) end }
  pool:map(function() barrier:wait(30) end, { 1, 2 }, { chunksize = 1 })
  pool:close()
  t.equal(pool:join(30), true)
  t.equal(contents(q), { "connection 1", "connection 2" })
end

tests["what exit prints is there when join returns"] = function()
  local out = t.command("-e", [[
    local pool = fz.pool { workers = 1, exit = function() io.write "bye" end }
    pool:apply(print, "call")
    pool:close()
    pool:join()
    print " joined"]])
  t.equal(out, "call\nbye joined\n")
end

tests["the end of a scope waits for exit, too"] = function()
  local q = fz.queue()
  do
    local pool <close> = fz.pool { workers = 1, exit = function() q:put "left" end }
    pool:apply(number)
  end
  t.equal(contents(q), { "left" })
end

tests["a worker without a call, and one that is terminated, have no exit"] = function()
  local q = fz.queue()
  local function exit() q:put "left" end
  local pool = fz.pool { workers = 2, exit = exit }
  t.equal(#pool.workers, 2)
  pool:close()
  t.equal(pool:join(30), true)
  pool = fz.pool { workers = 1, exit = exit }
  pool:apply(number)
  pool:terminate()
  t.equal(pool:join(30), true)
  t.equal(contents(q), {})
end

tests["a worker that is replaced after max_tasks calls exit"] = function()
  local q = fz.queue()
  local pool = fz.pool { workers = 1, max_tasks = 2, exit = function() q:put(1) end }
  for _ = 1, 5 do pool:apply(number) end
  pool:close()
  pool:join(30)
  t.equal(contents(q), { 1, 1, 1 })
end

tests["an exit function that raises is logged, and join returns"] = function()
  local _, err = t.command("-e", [[
    local pool = fz.pool { workers = 1, exit = function() error "no exit" end }
    pool:apply(math.abs, 1)
    pool:close()
    print(pool:join(30))]])
  t.match(err, "ERROR", "an exit function raised", "no exit")
end

tests["join with a timeout does not wait for an exit function that hangs"] = function()
  local pool = fz.pool { workers = 1, exit = function() fz.sleep(60) end }
  pool:apply(number)
  pool:close()
  t.equal({ pool:join(0.1) }, { nil, "timeout" })
  pool:terminate()
  t.equal(pool:join(30), true)
end

tests["without workers exit is called here"] = function()
  local _ <close> = t.in_this_process()
  local called = 0
  local pool = fz.pool { exit = function() called = called + 1 end }
  pool:close()
  pool:join()
  t.equal(called, 0)
  pool = fz.pool { exit = function() called = called + 1 end }
  pool:apply(number)
  pool:close()
  pool:join()
  pool:join()
  t.equal(called, 1)
end

tests["workers that are idle for long end, with their exit function"] = function()
  local q = fz.queue()
  local pool <close> = fz.pool { workers = 2, idle = 0.05, exit = function() q:put(number()) end }
  local pid = pool:apply(function() return fz.current_process().pid end)
  t.equal(living(pool), 2)
  await(function() return living(pool) == 0 end)
  t.equal(#contents(q), 1) -- `exit` ran only in the worker that made a call
  local again = pool:apply(function() return fz.current_process().pid end)
  t.equal(again ~= pid, true)
end

tests["a busy worker is not idle"] = function()
  local pool <close> = fz.pool { workers = 1, idle = 0.5 }
  local pids = {}
  for i = 1, 3 do
    pids[i] = pool:apply(function()
      t.sleep(0.7)
      return fz.current_process().pid
    end)
  end
  t.equal({ pids[2] == pids[1], pids[3] == pids[1] }, { true, true })
end

tests["wrong values are errors"] = function()
  t.match(t.wrong(function() fz.pool { exit = 1 } end), "bad option 'exit'", "function expected")
  t.match(t.wrong(function() fz.pool { idle = -1 } end), "bad option 'idle'", "seconds expected")
end

-- The pipes and sockets that a process has open, by their numbers in the kernel.
local function links(pid)
  local set = {}
  local list <close> = assert(io.popen(("ls -l /proc/%d/fd"):format(pid)))
  for line in list:lines() do
    local link = line:match "%-> (%a+:%[%d+%])$"
    if link then set[link] = true end
  end
  return set
end

-- The size of the anonymous shared memory that a process has mapped, in bytes.
local function shared_bytes(pid)
  local bytes = 0
  for line in io.lines(("/proc/%d/maps"):format(pid)) do
    local from, to = line:match "^(%x+)%-(%x+) rw%-s .*/dev/zero"
    if from then bytes = bytes + tonumber(to, 16) - tonumber(from, 16) end
  end
  return bytes
end

-- A sibling with a copy of an end would hide the death of the worker or of its parent. Descriptors
-- that all workers have do not count: the tokens of the pool, for example.
tests["a worker has no descriptor and no shared memory of its siblings"] = function()
  local n, items, owners = 20, {}, {}
  for i = 1, n do items[i] = i end
  local barrier, pool <close> = fz.barrier(n), fz.pool(n)
  local pids = pool:map(function()
    barrier:wait(30)
    return fz.current_process().pid
  end, items, { chunksize = 1 })
  for _, pid in ipairs(pids) do
    for link in pairs(links(pid)) do owners[link] = (owners[link] or 0) + 1 end
    t.equal(shared_bytes(pid), shared_bytes(pids[1]))
  end
  for link, count in pairs(owners) do
    assert(count == 1 or count == n, ("%d workers have %s"):format(count, link))
  end
end

return tests
