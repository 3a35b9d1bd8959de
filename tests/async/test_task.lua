-- test_task.lua - tasks: how they start, wait, end and fail, and what stays usable after a cancel.

local t = ...
local fz = require "fzlua"

local tests = {}

local DEADLINE <const> = 30

-- An object that calls f when the scope of its variable ends.
local function at_end(f)
  return setmetatable({}, { __close = f })
end

-- Run other tasks until f() is true.
local function until_true(f)
  local deadline = fz.now() + DEADLINE
  while not f() do
    assert(fz.now() < deadline, "it never became true")
    fz.sleep(0.001)
  end
end

tests["a task starts when the caller next waits, and its results are kept"] = function()
  local started = false
  local task = fz.spawn(function(...)
    started = true
    return select("#", ...), ...
  end, 1, nil, "x", nil)
  t.equal(started, false)
  t.equal({ fz.await(task) }, { 4, 1, nil, "x", nil })
  t.equal(started, true)
  t.equal(select("#", task:await()), 5)
  t.equal(task:done(), true)
end

tests["tasks that sleep overlap"] = function()
  local order = {}
  local function nap(seconds, name)
    fz.sleep(seconds)
    order[#order + 1] = name
    return name
  end
  local start = fz.now()
  local a, b = fz.gather(fz.spawn(nap, 0.3, "long"), fz.spawn(nap, 0.1, "short"))
  local seconds = fz.now() - start
  t.equal({ a, b }, { "long", "short" })
  t.equal(order, { "short", "long" })
  assert(seconds >= 0.3)
end

tests["sleep(0) lets ready tasks run in turn"] = function()
  local order = {}
  local function count(name)
    for i = 1, 3 do
      order[#order + 1] = name .. i
      fz.sleep(0)
    end
  end
  fz.await { fz.spawn(count, "a"), fz.spawn(count, "b") }
  t.equal(order, { "a1", "b1", "a2", "b2", "a3", "b3" })
end

tests["an error is raised unchanged by each await"] = function()
  local e = { "an object" }
  local task = fz.spawn(function() error(e) end)
  for _ = 1, 2 do
    local ok, raised = pcall(fz.await, task)
    t.equal(ok, false)
    assert(rawequal(raised, e))
  end
  local text = fz.spawn(function() error "a text" end)
  t.match(select(2, pcall(fz.await, text)), "test_task.lua:", "a text")
end

tests["await of a list returns the first results; a timeout returns nil"] = function()
  local list = {}
  for i = 1, 4 do
    list[i] = fz.spawn(function()
      fz.sleep(0.001 * (5 - i))
      return i ~= 3 and i or nil, "second"
    end)
  end
  t.equal(fz.await(list), { 1, 2, nil, 4, n = 4 })
  t.equal(fz.await {}, { n = 0 })
  local never = fz.future()
  t.equal({ fz.await({ list[1], never }, 0.01) }, { nil, "timeout" })
  t.equal({ never:await(0.01) }, { nil, "timeout" })
  t.equal({ fz.await(fz.spawn(function() return never:await(0.01) end)) }, { nil, "timeout" })
end

tests["cancel closes the task's variables and raises cancelled"] = function()
  local closed = {}
  local task = fz.spawn(function()
    local _ <close> = at_end(function() closed[#closed + 1] = "outer" end)
    local _ <close> = at_end(function() closed[#closed + 1] = "inner" end)
    fz.sleep(1000)
  end)
  local waits = fz.spawn(function() return pcall(fz.await, task) end)
  fz.sleep(0.001)
  t.equal(task:cancel(), true)
  t.equal(closed, { "inner", "outer" })
  t.equal(task:cancel(), false)
  t.fails("cancelled", fz.await, task)
  local ok, e = waits:await()
  t.equal({ ok, e.kind }, { false, "cancelled" })
end

tests["a task that has not started is cancelled without running"] = function()
  local ran = false
  local task = fz.spawn(function() ran = true end)
  t.equal(task:cancel(), true)
  fz.sleep(0)
  t.equal(ran, false)
  t.fails("cancelled", fz.await, task)
end

tests["a task may cancel itself"] = function()
  local closed, task = false, nil
  task = fz.spawn(function()
    local _ <close> = at_end(function() closed = true end)
    task:cancel()
  end)
  t.fails("cancelled", fz.await, task)
  t.equal(closed, true)
end

tests["a cancelled task waits in its close handlers while others run"] = function()
  local q, got = fz.queue(), nil
  local task = fz.spawn(function()
    local _ <close> = at_end(function() got = q:get(DEADLINE) end)
    fz.sleep(1000)
  end)
  fz.sleep(0)
  fz.spawn(function() q:put "from another task" end)
  task:cancel()
  t.equal(got, "from another task")
end

tests["with_timeout returns the results of f, or ends it"] = function()
  t.equal({ fz.with_timeout(DEADLINE, function(...) return ... end, 1, nil, 3) }, { 1, nil, 3 })
  t.equal({ fz.with_timeout(nil, function() return "no limit" end) }, { "no limit" })
  local closed = false
  t.equal({ fz.with_timeout(0.01, function()
    local _ <close> = at_end(function() closed = true end)
    fz.sleep(1000)
  end) }, { nil, "timeout" })
  t.equal(closed, true)
  local e = select(2, pcall(fz.with_timeout, DEADLINE, function() error "own" end))
  t.match(e, "own")
  local lock = fz.lock()
  lock:acquire()
  fz.with_timeout(DEADLINE, function() lock:release() end) -- the caller holds the lock
  t.equal(lock:acquire(0), true)
end

tests["gather raises the first error and cancels the others"] = function()
  local closed = 0
  local function sleeper()
    local _ <close> = at_end(function() closed = closed + 1 end)
    fz.sleep(1000)
  end
  local a, b = fz.spawn(sleeper), fz.spawn(sleeper)
  local failing = fz.spawn(function()
    fz.sleep(0.01)
    error("first", 0)
  end)
  local ok, e = pcall(fz.gather, a, failing, b)
  t.equal({ ok, e, closed }, { false, "first", 2 })
  t.fails("cancelled", fz.await, b)
  t.equal(select("#", fz.gather()), 0)
  t.equal({ fz.gather(fz.spawn(function() return 1, 2 end), fz.spawn(function() end)) }, { 1, nil })
end

tests["as_completed yields futures in the order in which they are done"] = function()
  local function nap(ms)
    fz.sleep(ms / 1000)
    return ms
  end
  local done = fz.spawn(nap, 0)
  fz.await(done)
  local order = {}
  for future in fz.as_completed { fz.spawn(nap, 60), done, fz.spawn(nap, 20), done } do
    order[#order + 1] = future:await()
  end
  t.equal(order, { 0, 0, 20, 60 })
end

tests["a wait in a generator of a task suspends the task only"] = function()
  local q, ticks = fz.queue(1), 0
  local ticker = fz.spawn(function()
    while true do
      ticks = ticks + 1
      fz.sleep(0.001)
    end
  end)
  local function generator()
    return coroutine.wrap(function()
      for i = 1, 3 do
        local before = ticks
        until_true(function() return ticks > before end)
        q:put(i)
        coroutine.yield(q:get() * 10)
      end
      return nil
    end)
  end
  local sum = fz.spawn(function()
    local n = 0
    for x in generator() do n = n + x end
    return n
  end):await(DEADLINE)
  ticker:cancel()
  t.equal(sum, 60)
end

tests["generators in generators and resume pass waits on, errors and results"] = function()
  local function inner()
    return coroutine.create(function(a)
      fz.sleep(0.001)
      local b = coroutine.yield(a + 1)
      fz.sleep(0.001)
      error("inner " .. b, 0)
    end)
  end
  local task = fz.spawn(function()
    local outer = coroutine.wrap(function()
      local co = inner()
      local seen = { coroutine.resume(co, 1) }
      coroutine.yield(table.unpack(seen))
      seen = { coroutine.resume(co, "end") }
      coroutine.yield(seen[1], seen[2], coroutine.status(co))
    end)
    local first = { outer() }
    return first, { outer() }
  end)
  local first, second = task:await(DEADLINE)
  t.equal(first, { true, 2 })
  t.equal(second, { false, "inner end", "dead" })
end

tests["a coroutine in which a task waits cannot be resumed by another"] = function()
  local future = fz.future()
  local generator = coroutine.wrap(function()
    while true do coroutine.yield(future:await()) end
  end)
  local first = fz.spawn(function() return generator() end)
  local second = fz.spawn(function() return generator() end)
  t.match(select(2, pcall(second.await, second)), "in which another task waits")
  future:set_result "done"
  t.equal(first:await(), "done")
  t.equal(generator(), "done")
end

tests["cancel closes the generator in which the task waits"] = function()
  local closed = {}
  local task = fz.spawn(function()
    local _ <close> = at_end(function() closed[#closed + 1] = "task" end)
    local generator = coroutine.wrap(function()
      local _ <close> = at_end(function() closed[#closed + 1] = "generator" end)
      fz.sleep(1000)
    end)
    generator()
  end)
  fz.sleep(0.001)
  task:cancel()
  t.equal(closed, { "generator", "task" })
end

tests["a wait where Lua cannot yield runs other tasks"] = function()
  local q = fz.queue()
  local taker = fz.spawn(function()
    local list = { 3, 1, 2 }
    table.sort(list, function(a, b)
      q:get()
      return a < b
    end)
    return list
  end)
  local putter = fz.spawn(function()
    while true do
      q:put "once more"
      fz.sleep(0.001)
    end
  end)
  t.equal(taker:await(DEADLINE), { 1, 2, 3 })
  putter:cancel()
end

tests["a task that cannot be suspended is cancelled at its wait"] = function()
  local reached = false
  local task = fz.spawn(function()
    table.sort({ 1, 2, 3 }, function(a, b)
      reached = true
      fz.sleep(1000)
      return a < b
    end)
  end)
  fz.spawn(function()
    until_true(function() return reached end)
    task:cancel()
  end)
  t.fails("cancelled", task.await, task, DEADLINE)
end

tests["coroutine.yield of a task itself is an error"] = function()
  local task = fz.spawn(function() coroutine.yield(1) end)
  t.match(t.fails("error", fz.await, task).message, "coroutine.yield()")
end

tests["tasks run during waits of callbacks, and in workers and processes"] = function()
  local function work()
    local a = fz.spawn(function()
      fz.sleep(0.001)
      return 1
    end)
    return (fz.gather(a, fz.spawn(function() return 2 end)))
  end
  local pool <close> = fz.pool(1)
  t.equal(pool:apply(work), 1)
  local process <close> = fz.process(work):start()
  t.equal(process:result(), 1)
  local said
  pool:apply_async(function() end, {}, { callback = function() said = work() end })
  until_true(function() return said end)
  t.equal(said, 1)
  local stage = fz.stage "s"
  function stage.A(a) return a + work() end
  local chain <close> = fz.chain { stage }
  t.equal(chain({ a = 1 }).A, 2)
  t.equal(chain({ a = 1 }, { jobs = 0 }).A, 2)
end

tests["a forked process has none of its parent's tasks"] = function()
  local ticks = fz.value("j", 0)
  local ticker = fz.spawn(function()
    while true do
      ticks:add(1)
      fz.sleep(0.001)
    end
  end)
  fz.sleep(0.005)
  local process <close> = fz.process(function()
    local n = 0
    local own = fz.spawn(function()
      for _ = 1, 3 do
        n = n + 1
        fz.sleep(0.001)
      end
    end)
    own:await()
    return n
  end):start()
  local n = process:result(DEADLINE)
  ticker:cancel()
  t.equal(n, 3)
end

-- Start f as a task, cancel the task while it waits, and return when it has ended.
local function cancel_in(f)
  local waits = false
  local task = fz.spawn(function()
    waits = true
    f()
    error("the wait has ended", 0)
  end)
  until_true(function() return waits end)
  fz.sleep(0.005)
  assert(task:cancel())
  t.fails("cancelled", fz.await, task)
end

tests["a task cancelled in a wait for a shared object leaves it usable"] = function()
  local q, full = fz.queue(), fz.queue(1)
  full:put(1)
  local a, b = fz.pipe()
  local lock, sem, event = fz.lock(), fz.semaphore(0), fz.event()
  local cond, barrier = fz.condition(), fz.barrier(2)
  local value = fz.value("i", 0)
  lock:acquire()
  cancel_in(function() q:get() end)
  cancel_in(function() full:put(2) end)
  cancel_in(function() full:put { "a table" } end)
  cancel_in(function() full:join() end)
  cancel_in(function() a:recv() end)
  cancel_in(function() a:poll(1000) end)
  cancel_in(function() lock:acquire() end)
  cancel_in(function() lock:with(print) end)
  cancel_in(function() sem:acquire() end)
  cancel_in(function() event:wait() end)
  cancel_in(function() cond:with(function() cond:wait() end) end)
  cancel_in(function() cond:with(function() cond:wait_for(function() end) end) end)
  cancel_in(function() barrier:wait() end)
  cancel_in(function() value:with(function() fz.sleep(1000) end) end)
  q:put "item"
  b:send "sent"
  sem:release()
  event:set()
  lock:release()
  t.equal({ q:get(0), full:get(0), full:size(), a:recv(1) }, { "item", 1, 0, "sent" })
  t.equal({ lock:acquire(0), sem:acquire(0), event:wait(0) }, { true, true, true })
  t.equal(cond:with(function() return "free" end), "free")
  t.equal(value:add(1), 1)
  t.equal(barrier.broken, true)
  barrier:reset()
  t.equal(barrier.n_waiting, 0)
end

tests["a task cancelled in a wait for workers leaves them usable"] = function()
  local pool <close> = fz.pool(1)
  local stage = fz.stage "s"
  function stage.A(a) return a end
  function stage.B(a)
    if a == "slow" then fz.sleep(1000) end
    return a
  end
  local chain <close> = fz.chain { stage }
  local function slow() fz.sleep(1000) end
  cancel_in(function() pool:apply(slow) end)
  cancel_in(function() pool:map(slow, { 1, 2, 3 }) end)
  cancel_in(function() for _ in pool:imap(slow, { 1, 2, 3 }) do error "never" end end)
  cancel_in(function() fz.map(slow, { 1, 2 }) end)
  cancel_in(function() chain:invoke { a = "slow" } end)
  cancel_in(function() fz.exec { "sleep", "1000" } end)
  t.equal(pool:map(function(x) return x + 1 end, { 1, 2, 3 }), { 2, 3, 4, n = 3 })
  t.equal(chain({ a = "quick" }).B, "quick")
end

tests["a task cancelled in a wait for a process or a manager leaves them usable"] = function()
  local p = fz.process(function() return fz.queue():get(1000) end):start()
  cancel_in(function() p:join() end)
  cancel_in(function() p:result() end)
  t.equal(p:is_alive(), true)
  p:close()
  local m <close> = fz.manager()
  local d = m:dict { n = 1 }
  local server = fz.spawn(function()
    d:update("n", function(n)
      fz.sleep(0.2)
      return n + 1
    end)
  end)
  cancel_in(function() return d.n end)
  server:await(DEADLINE)
  t.equal(d.n, 2)
end

tests["an item is not lost if the task that was woken for it is cancelled"] = function()
  local q, got = fz.queue(), nil
  local first = fz.spawn(function() return q:get() end)
  local second = fz.spawn(function() got = q:get() end)
  fz.sleep(0.001)
  q:put "item"
  first:cancel()
  second:await(DEADLINE)
  t.equal(got, "item")
end

tests["Ctrl-C in a task, and while all tasks wait, reaches the script"] = function()
  for _, wait in ipairs { "while true do end", "fz.sleep(1000)", "fz.queue():get()" } do
    local ready = t.file ""
    os.remove(ready)
    local script = t.file(([[
      local other <close> = fz.process(fz.sleep, 1000):start() -- could end the wait: no deadlock
      local task = fz.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() print "closed" end })
        io.open(%q, "w"):close()
        %s
      end)
      local ok, e = pcall(fz.await, task)
      print(ok, e.kind)
      task:cancel()
      other:close()
    ]]):format(ready, wait))
    local out = t.shell(([[env --default-signal=INT "$FZLUA" %s </dev/null & pid=$!
      until_true test -e %s; sleep 0.1; kill -INT $pid; wait $pid]]):format(script, ready))
    t.match(out, "false\tinterrupted\n", "closed\n")
  end
end

tests["the command finishes tasks, and ends them after an error"] = function()
  local out, err, status = t.command("-e", [[
    fz.spawn(function() fz.sleep(0.05) print "finished" end)
    print "end of the script"
  ]])
  t.equal({ out, err, status }, { "end of the script\nfinished\n", "", 0 })
  out, err, status = t.command("-e", [[
    fz.spawn(function()
      local _ <close> = setmetatable({}, { __close = function() print "closed" end })
      fz.sleep(1000)
    end)
    fz.sleep(0)
    error "the script fails"
  ]])
  t.equal({ out, status }, { "closed\n", 1 })
  t.match(err, "the script fails")
  out, err, status = t.command("-e", [[
    fz.spawn(function() print "never" end)
    os.exit(3, true)
  ]])
  t.equal({ out, err, status }, { "", "", 3 })
  out = t.command("-e", [[
    local p = fz.process(function()
      fz.spawn(function() fz.sleep(0.01) print "in a process" end)
    end):start()
    p:join()
  ]])
  t.equal(out, "in a process\n")
end

tests["a deadlock is named with the place of each wait"] = function()
  local script = t.file [[
    local a, b = fz.future(), fz.future()
    local q = fz.queue()
    local t1 = fz.spawn(function() b:await() a:set_result() end)
    local t2 = fz.spawn(function() a:await() b:set_result() end)
    local t3 = fz.spawn(function() q:get() end)
    fz.await(t1)
  ]]
  local _, err, status = t.command(script)
  t.equal(status, 1)
  t.match(err, "deadlock", "wait for fzlua.Task", "fzlua.Future (pending) at " .. script .. ":3",
    "fzlua.Future (pending) at " .. script .. ":4",
    "an item of a queue or pipe at " .. script .. ":5")
  _, err, status = t.command("-e", "fz.spawn(function() fz.future():await() end)")
  t.equal(status, 1)
  t.match(err, "deadlock", "the end of all tasks")
  t.fails("error", fz.await, fz.future())
end

tests["a deadlock report names the function of a task that ended in a tail call"] = function()
  local script = t.file [[
local q, f = fz.queue(), fz.future()
fz.spawn(function()
  return fz.await(f)
end)
fz.spawn(q.get, q)
f:await()]]
  local _, err = t.command(script)
  t.match(err, ("fzlua.Future (pending) in the function of %s:2"):format(script),
    "an item of a queue or pipe in a C function")
end

tests["a wait that another process can end is no deadlock"] = function()
  local q = fz.queue()
  local _ <close> = fz.process(function()
    fz.sleep(0.3)
    q:put "late"
  end):start()
  local task = fz.spawn(function() return q:get() end)
  t.equal(task:await(), "late")
  local other = fz.spawn(function() fz.sleep(0.3) end)
  t.equal({ q:get(0.1) }, { nil, "timeout" })
  other:await()
end

-- The script runs in a process without children, so only a timeout ends its waits.
tests["a time ends waits of tasks for shared objects, and tasks can share a lock"] = function()
  local out, err, status = t.command("-e", [[
    local lock, held = fz.lock(), fz.lock()
    held:acquire()
    local function with() return lock:with(function() fz.sleep(0.002) return "in" end) end
    local function timed(name, f)
      print(name, fz.await(fz.spawn(f)))
    end
    local e, q, b, s = fz.event(), fz.queue(), fz.barrier(2), fz.semaphore(1)
    s:acquire()
    timed("event", function() return e:wait(0.02) end)
    timed("lock", function() return held:acquire(0.02) end)
    timed("queue", function() return q:get(0.02) end)
    timed("barrier", function() return b:wait(0.02) end)
    timed("semaphore", function() return s:acquire(0.02) end)
    local tasks = {}
    for round = 1, 3 do
      for i = 1, 20 do tasks[i] = fz.spawn(with) end
      print(select("#", fz.gather(table.unpack(tasks))))
    end
    print(pcall(fz.await, fz.spawn(function() return q:get() end)))
    os.exit(0)]])
  local fact = "event\tnil\ttimeout\nlock\tfalse\nqueue\tnil\ttimeout\nbarrier\tnil\ttimeout\n" ..
    "semaphore\tfalse\n20\n20\n20\nfalse\tdeadlock"
  t.equal(out:sub(1, #fact), fact, err)
  t.equal(status, 0)
end

tests["a task that waits for its own end gets an error"] = function()
  local waits = {
    function(me) return me:await() end,
    function(me) return me:await(1000) end,
    function(me) return fz.await(me) end,
  }
  for _, wait in ipairs(waits) do
    local me
    me = fz.spawn(function() return wait(me) end)
    fz.spawn(fz.sleep, 0.01) -- without this task, the wait would be a deadlock
    t.match(t.fails("error", me.await, me), "its own end")
  end
end

tests["a sleep of zero that cannot suspend its task ends no later wait"] = function()
  local future = fz.future()
  local waiter = fz.spawn(function()
    table.sort({ 2, 1 }, function(a, b)
      fz.sleep(0)
      return a < b
    end)
    return future:await()
  end)
  fz.spawn(function()
    for _ = 1, 3 do fz.sleep(0) end
    future:set_result "set"
  end)
  t.equal(waiter:await(), "set")
end

-- A hook may raise an error at any instruction, even between tasks. lua5.4 sets such a hook at
-- Ctrl-C.
tests["an error of a hook while tasks run leaves nothing of them behind"] = function()
  for count = 1, 400, 3 do
    local other = fz.spawn(function() while true do fz.sleep(0) end end)
    local function stop()
      debug.sethook()
      error("stopped by the hook", 0)
    end
    local ok, e = pcall(function()
      debug.sethook(stop, "", count)
      fz.sleep(60)
    end)
    debug.sethook()
    t.equal({ ok, e }, { false, "stopped by the hook" })
    t.equal(other:cancel(), true)
    t.equal(fz.await(fz.spawn(function() return fz.await(fz.spawn(fz.cpu_count)) > 0 end)), true)
  end
end

return tests
