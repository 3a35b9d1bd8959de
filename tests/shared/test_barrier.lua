-- test_barrier.lua - fz.barrier: all waits end together, or all find the barrier broken.

local t = ...

local tests = {}

local BROKEN = "the barrier is broken"

local function broken(f, ...)
  local e = t.fails("error", f, ...)
  t.match(e, BROKEN)
  return e
end

-- The outcome of a wait: its index, "timeout", or the text of the error.
local function outcome(b, timeout)
  local ok, v, why = pcall(b.wait, b, timeout)
  return ok and (v or why) or v.message
end

-- A wait that must time out.
local function runs_out(b, timeout)
  t.equal({ b:wait(timeout) }, { nil, "timeout" })
end

-- Start n processes that wait once. Returns when all of them wait.
local function waiters(b, n)
  local procs, before = {}, b.n_waiting
  for i = 1, n do
    procs[i] = fz.process(outcome, b):start()
    t.until_true(function() return b.n_waiting == before + i end)
  end
  return procs
end

local function all(procs, expected)
  for i, p in ipairs(procs) do
    t.equal(p:result(10), type(expected) == "table" and expected[i] or expected)
    assert(p:join(10))
  end
end

tests["a barrier of one process does not wait"] = function()
  local calls = 0
  local b = fz.barrier(1, function() calls = calls + 1 end)
  t.match(tostring(b), "fzlua.Barrier: 0x")
  for _ = 1, 3 do t.equal({ b:wait() }, { 0 }) end
  t.equal({ b:wait(0) }, { 0 })
  t.equal(calls, 4)
  t.equal({ b.parties, b.n_waiting, b.broken, b.other }, { 1, 0, false, nil })
end

tests["wrong arguments raise an error at the caller's line"] = function()
  t.match(t.wrong(function() fz.barrier() end), "number expected, got no value")
  t.match(t.wrong(function() fz.barrier(0) end), "must be from 1")
  t.match(t.wrong(function() fz.barrier(1 << 40) end), "must be from 1")
  t.match(t.wrong(function() fz.barrier(2, 5) end), "function expected")
  local b = fz.barrier(2)
  t.match(t.wrong(function() b:wait "x" end), "number expected")
  t.match(t.wrong(function() b.wait(fz.lock()) end), "fzlua.Barrier expected")
  assert(not pcall(function() b.parties = 3 end))
  t.equal({ b.broken, b.parties, b[1] }, { false, 2, nil })
end

tests["a wait that runs out breaks it, until it is reset"] = function()
  local b = fz.barrier(2)
  runs_out(b, 0.05)
  t.equal(b.broken, true)
  t.equal(broken(b.wait, b).message, BROKEN)
  t.equal(broken(b.wait, b, 1).message, BROKEN)
  b:reset()
  t.equal({ b.broken, b.n_waiting }, { false, 0 })
  runs_out(b, 0)
  t.equal(b.broken, true)
  b:reset()
  b:abort()
  t.equal(b.broken, true)
  broken(b.wait, b)
end

tests["an action that raises breaks it, and raises here"] = function()
  local what = {}
  local b = fz.barrier(1, function() error(what) end)
  local ok, e = pcall(b.wait, b)
  assert(not ok and e == what)
  t.equal(b.broken, true)
  broken(b.wait, b)
  b = fz.barrier(1, function()
    local function deep_in_it() error "here" end
    deep_in_it()
  end)
  t.match(select(2, xpcall(b.wait, debug.traceback, b)), "here", "deep_in_it")
end

tests["an action may yield, and its end breaks the barrier"] = function()
  local b = fz.barrier(1, function() coroutine.yield "within" end)
  local co = coroutine.wrap(function() return b:wait() end)
  t.equal({ co(), co() }, { "within", 0 })
  co = coroutine.create(function() return b:wait() end)
  coroutine.resume(co)
  coroutine.close(co)
  t.equal(b.broken, true)
end

tests["an action that waits for its own barrier would do so for ever"] = function()
  local b
  b = fz.barrier(1, function() b:wait() end)
  t.match(t.fails("error", b.wait, b).message, "the action of a barrier cannot wait for it")
  t.equal(b.broken, true)
  b = fz.barrier(1, function() pcall(b.wait, b) end)
  t.equal({ b:wait(), b.broken }, { 0, false })
end

tests["an action that aborts or resets the barrier"] = function()
  local b
  b = fz.barrier(1, function() b:abort() end)
  broken(b.wait, b)
  t.equal(b.broken, true)
  b = fz.barrier(1, function() b:reset() end)
  broken(b.wait, b)
  t.equal(b.broken, false)
end

tests["in order of arrival, round after round; then as new"] = function()
  local b = fz.barrier(4)
  for _ = 1, 3 do
    local procs = waiters(b, 3)
    t.equal({ b.n_waiting, b.broken }, { 3, false })
    t.equal(b:wait(10), 3)
    all(procs, { 0, 1, 2 })
    t.equal(b.n_waiting, 0)
  end
end

tests["the action runs once, in the last process, before any other returns"] = function()
  local ran, late = fz.value("i", 0), fz.event()
  local b = fz.barrier(3, function()
    ran:add(1)
    os.execute "sleep 0.2"
    late:set()
  end)
  local procs = {}
  for i = 1, 3 do
    procs[i] = fz.process(function() return b:wait(10), late:is_set() end):start()
  end
  local seen = {}
  for i = 1, 3 do
    local index, was = procs[i]:result(10)
    seen[index] = was
    assert(procs[i]:join(10))
  end
  t.equal(seen, { [0] = true, true, true })
  t.equal(ran.value, 1)
end

tests["an action that raises breaks the barrier for all"] = function()
  local b = fz.barrier(3, function() error "no" end)
  local procs = waiters(b, 2)
  assert(not pcall(b.wait, b))
  all(procs, BROKEN)
end

tests["a timeout, abort and reset break the barrier for all waiters"] = function()
  local b = fz.barrier(4)
  local procs = waiters(b, 2)
  runs_out(b, 0.05)
  all(procs, BROKEN)
  b:reset()
  procs = waiters(b, 2)
  b:abort()
  all(procs, BROKEN)
  b:reset()
  procs = waiters(b, 2)
  b:reset()
  all(procs, BROKEN)
  t.equal(b.broken, false)
  procs = waiters(b, 3)
  t.equal(b:wait(10), 3)
  all(procs, { 0, 1, 2 })
end

tests["abort and reset at once break it for all waiters"] = function()
  local b = fz.barrier(3)
  for _ = 1, 10 do
    local procs = waiters(b, 2)
    b:abort()
    b:reset()
    local more = waiters(b, 2)
    all(procs, BROKEN)
    t.equal(b:wait(10), 2)
    all(more, { 0, 1 })
  end
end

tests["one that is killed while it waits breaks it"] = function()
  local b = fz.barrier(4)
  local procs = waiters(b, 3)
  table.remove(procs, 2):kill()
  all(procs, BROKEN)
  t.equal(b.broken, true)
  b:reset()
  procs = waiters(b, 1)
  procs[1]:kill()
  assert(procs[1]:join(10))
  broken(b.wait, b) -- this wait is the first to notice the death
end

tests["one that is killed in the action breaks it"] = function()
  local within = fz.event()
  local b = fz.barrier(3, function() within:set() os.execute "sleep 60" end)
  local procs = waiters(b, 2)
  local last <close> = fz.process(outcome, b):start()
  assert(within:wait(10))
  t.equal({ b.n_waiting, b.broken }, { 0, false })
  local late <close> = fz.process(outcome, b):start() -- this process waits for the next round
  t.equal(late:join(0.1), nil)
  last:kill()
  all(procs, BROKEN)
  t.equal(late:result(10), BROKEN)
  t.equal(b.broken, true)
end

tests["a process that arrives while the action runs waits for the next round"] = function()
  local within, go = fz.event(), fz.event()
  local b = fz.barrier(2, function() within:set() go:wait(10) end)
  local procs = { fz.process(outcome, b):start(), fz.process(outcome, b):start() }
  assert(within:wait(10))
  within:clear()
  local third = fz.process(outcome, b):start()
  t.equal(third:join(0.1), nil)
  go:set()
  local sum = procs[1]:result(10) + procs[2]:result(10)
  t.equal(sum, 1)
  t.until_true(function() return b.n_waiting == 1 end)
  t.equal(b:wait(10), 1)
  t.equal(third:result(10), 0)
  procs[3] = third
  for _, p in ipairs(procs) do assert(p:join(10)) end
end

tests["running out while the action runs breaks it, for all"] = function()
  local within, go = fz.event(), fz.event()
  local b = fz.barrier(2, function() within:set() go:wait(10) end)
  local procs = waiters(b, 1)
  procs[2] = fz.process(outcome, b):start()
  assert(within:wait(10))
  runs_out(b, 0.05)
  go:set()
  all(procs, BROKEN)
end

tests["Ctrl-C in a wait breaks it"] = function()
  local out = t.interrupt [[
    local b = fz.barrier(2)
    local other = fz.process(fz.sleep, 60) -- could end the wait, so it is not a deadlock
    other.daemon = true
    other:start()
    ready()
    local ok, e = pcall(b.wait, b)
    print(ok, e.kind, b.broken)
    b:reset()
    print(pcall(b.wait, b, 0.01))
  ]]
  t.match(out, "false\tinterrupted\ttrue\ntrue\tnil\ttimeout")
end

tests["a callback within a wait can wait for another one"] = function()
  local pool <close> = fz.pool(1)
  local b, c, said = fz.barrier(2), fz.barrier(2), nil
  local p <close> = fz.process(function() return b:wait() end)
  pool:apply_async(function() end, {}, { callback = function()
    said = select(2, c:wait(0.01))
    p:start()
  end })
  t.equal(b:wait(10), 0)
  t.equal(said, "timeout")
  t.equal({ c.broken, c.n_waiting }, { true, 0 })
  t.equal(p:result(10), 1)
end

tests["in messages"] = function()
  local pool <close> = fz.pool(2)
  pool:apply(function() end)
  local b = fz.barrier(3)
  local args = { { { b = b } }, { { b = b } } }
  local r = pool:starmap_async(function(x) return x.b:wait(10) end, args)
  local sum = b:wait(10)
  for _, v in ipairs(r:get(10)) do sum = sum + v end
  t.equal(sum, 3)
  assert(pool:apply(function(x) return x end, b) == b)
  t.equal(pool:apply(function(x) return x.parties end, b), 3)
end

tests["the action is not sent: the last process that arrives must have it"] = function()
  local pool <close> = fz.pool(1)
  pool:apply(function() end)
  local calls = 0
  local b = fz.barrier(2, function() calls = calls + 1 end)
  local r = pool:apply_async(outcome, { b })
  t.until_true(function() return b.n_waiting == 1 end)
  t.equal(b:wait(10), 1)
  t.equal({ r:get(10), calls }, { 0, 1 })
  local p <close> = fz.process(outcome, b):start()
  t.until_true(function() return b.n_waiting == 1 end)
  t.match(pool:apply(outcome, b), BROKEN, "without its action")
  t.equal(p:result(10), BROKEN)
end

tests["eight in step, hundreds of rounds"] = function()
  local rounds = fz.value("i", 0)
  local b = fz.barrier(8, function() rounds:add(1) end)
  local procs = {}
  for i = 1, 8 do
    procs[i] = fz.process(function()
      local sum = 0
      for round = 1, 200 do
        sum = sum + b:wait(20)
        assert(rounds.value == round or rounds.value == round + 1)
      end
      return sum
    end):start()
  end
  local sum = 0
  for i = 1, 8 do
    sum = sum + procs[i]:result(30)
    assert(procs[i]:join(10))
  end
  t.equal(sum, 200 * 28)
  t.equal(rounds.value, 200)
end

tests["kills, timeouts and resets at any time leave no process hanging"] = function()
  local b, over, went = fz.barrier(4), fz.event(), fz.value("i", 0)
  local function work(seed)
    math.randomseed(seed)
    while not over:is_set() do
      local v = outcome(b, math.random(5) == 1 and math.random() / 100 or 5)
      if math.type(v) then
        assert(v >= 0 and v < 4)
        went:add(1)
      else
        assert(v == "timeout" or v == BROKEN, v)
        b:reset()
      end
    end
  end
  local procs = {}
  for i = 1, 8 do procs[i] = fz.process(work, i):start() end
  for i = 7, 8 do
    os.execute "sleep 0.1"
    procs[i]:kill()
  end
  os.execute "sleep 0.2"
  t.until_true(function() return went.value > 0 end)
  over:set()
  t.until_true(function()
    b:abort()
    for i = 1, 6 do if procs[i]:is_alive() then return false end end
    return true
  end)
  for i = 1, 8 do assert(procs[i]:join(10)) end
  for i = 1, 6 do t.equal(procs[i].exitcode, 0) end
end

tests["waiting costs no time of the processor"] = function()
  local b, before = fz.barrier(2), os.clock()
  runs_out(b, 1)
  assert(os.clock() - before < 0.3)
end

return tests
