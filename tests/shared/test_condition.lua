-- test_condition.lua - fz.condition: waiters are notified in order, even if processes die.

local t = ...

local tests = {}

-- Start a process that calls f(...), and return when f waits for `c`: just before the wait, the
-- process adds one to `n` under the lock of `c`.
local function waiting(c, n, f, ...)
  local before = n.value
  local p = fz.process(function(...)
    c:acquire()
    n:add(1)
    return f(...)
  end, ...):start()
  t.until_true(function()
    return c:with(function() return n.value > before end)
  end)
  return p
end

-- A process that waits for `c` once, and then sets the event `done`.
local function waiter(c, n, done)
  return waiting(c, n, function()
    local r = { c:wait() }
    c:release()
    if done then done:set() end
    return table.unpack(r)
  end)
end

local function finish(...)
  for _, p in ipairs { ... } do assert(p:join(10)) end
end

local function is_free(lock)
  local p <close> = fz.process(function() return (lock:acquire(0)) end):start()
  return p:result(10)
end

tests["waiting and notifying need the lock"] = function()
  local c = fz.condition()
  t.match(tostring(c), "fzlua.Condition: 0x")
  for _, name in ipairs { "wait", "notify", "notify_all", "release" } do
    t.match(t.fails("error", c[name], c), "does not hold the lock")
  end
  t.fails("error", c.wait, c, 0)
  t.fails("error", c.wait_for, c, function() return true end)
  c:acquire()
  local p <close> = fz.process(function() return pcall(c.notify, c) end):start()
  t.equal(p:result(10), false)
  c:release()
end

tests["a wait that runs out has the lock again"] = function()
  for _, lock in ipairs { fz.lock(), fz.rlock() } do
    local c = fz.condition(lock)
    c:acquire()
    t.equal({ c:wait(0) }, { nil, "timeout" })
    t.equal({ c:wait(0.06) }, { nil, "timeout" })
    assert(not is_free(c) and not is_free(lock))
    c:release()
    assert(is_free(c) and is_free(lock))
  end
end

tests["its own lock is recursive, with and guards are as those of locks"] = function()
  local c = fz.condition()
  c:acquire()
  c:acquire()
  t.equal({ c:wait(0.01) }, { nil, "timeout" })
  c:release()
  assert(not is_free(c))
  c:release()
  assert(is_free(c))
  t.equal({ c:with(function(...) return is_free(c), ... end, 1, 2) }, { false, 1, 2 })
  assert(is_free(c))
  do
    local guard <close> = c:guard() -- luacheck: ignore
    assert(not is_free(c))
  end
  assert(is_free(c))
end

tests["wait_for: the value of f once it is true, else a timeout"] = function()
  local c, calls = fz.condition(), 0
  c:acquire()
  t.equal({ c:wait_for(function() return 7, 8 end) }, { 7 })
  local function never() calls = calls + 1 return false end
  t.equal({ c:wait_for(never, 0.05) }, { nil, "timeout" })
  t.equal(calls, 2)
  t.equal({ c:wait_for(function() return nil end, 0) }, { nil, "timeout" })
  t.equal({ c:wait_for(function() calls = calls + 1 return calls == 4 end, 0) }, { true })
  local ok, e = pcall(c.wait_for, c, function() error "in f" end)
  assert(not ok)
  t.match(e, "in f")
  c:release()
  assert(is_free(c))
end

tests["wrong arguments raise an error at the caller's line"] = function()
  t.match(t.wrong(function() fz.condition(5) end), "fzlua.Lock expected")
  t.match(t.wrong(function() fz.condition(fz.condition()) end), "fzlua.Lock expected")
  local c <const> = fz.condition()
  c:acquire()
  t.match(t.wrong(function() c:wait "x" end), "number expected")
  t.match(t.wrong(function() c:wait_for() end), "function expected, got no value")
  t.match(t.wrong(function() c:notify(-1) end), "must not be negative")
  t.match(t.wrong(function() c:notify "all" end), "number expected")
  t.match(t.wrong(function() c.wait(fz.lock()) end), "fzlua.Condition expected")
  c:notify(0)
  c:notify(math.maxinteger)
  c:release()
end

tests["notify wakes the longest waiters first"] = function()
  for _, lock in ipairs { fz.lock(), fz.rlock() } do
    local c, n = fz.condition(lock), fz.value("i", 0)
    local events, procs = {}, {}
    for i = 1, 5 do
      events[i] = fz.event()
      procs[i] = waiter(c, n, events[i])
    end
    c:with(function() c:notify() end)
    t.equal(events[1]:wait(10), true)
    c:with(function() c:notify(2) end)
    t.equal({ events[2]:wait(10), events[3]:wait(10) }, { true, true })
    t.equal({ events[4]:wait(0.1), events[5]:is_set() }, { nil, false })
    c:with(c.notify_all, c)
    for i = 1, 5 do
      t.equal({ procs[i]:result(10) }, { true })
      finish(procs[i])
    end
  end
end

tests["a notification is not kept for later waiters"] = function()
  local c, n = fz.condition(), fz.value("i", 0)
  c:with(function()
    c:notify()
    c:notify_all()
    t.equal({ c:wait(0) }, { nil, "timeout" })
  end)
  local p <close> = waiter(c, n)
  t.equal(p:join(0.1), nil)
  c:with(c.notify, c)
  finish(p)
end

tests["wait releases an rlock that is held many times, and acquires it as often"] = function()
  local c, n = fz.condition(), fz.value("i", 0)
  local p <close> = waiting(c, n, function()
    for _ = 1, 4 do c:acquire() end
    c:wait()
    for _ = 1, 5 do c:release() end
    return pcall(c.release, c)
  end)
  c:with(c.notify, c)
  t.equal(p:result(10), false)
  assert(is_free(c))
end

tests["several conditions of one lock"] = function()
  local lock = fz.lock()
  local full, empty, item = fz.condition(lock), fz.condition(lock), fz.value("i", 0)
  local p <close> = fz.process(function()
    local sum = 0
    for _ = 1, 200 do
      lock:acquire()
      full:wait_for(function() return item.value ~= 0 end)
      sum = sum + item.value
      item.value = 0
      empty:notify()
      lock:release()
    end
    return sum
  end):start()
  for i = 1, 200 do
    empty:with(function()
      empty:wait_for(function() return item.value == 0 end)
      item.value = i
      full:notify()
    end)
  end
  t.equal(p:result(10), 20100)
end

tests["a notification is not lost to a waiter that is dead"] = function()
  local c, n, done = fz.condition(), fz.value("i", 0), fz.event()
  local first <close> = waiter(c, n)
  local second <close> = waiter(c, n, done)
  first:kill()
  finish(first)
  c:with(c.notify, c)
  t.equal(done:wait(10), true)
  finish(second)
end

tests["a notification is not lost to a waiter that dies when woken"] = function()
  local c, n, done = fz.condition(), fz.value("i", 0), fz.event()
  local first <close> = waiter(c, n)
  local second <close> = waiter(c, n, done)
  c:acquire()
  c:notify()
  first:kill() -- `first` was notified, but does not hold the lock yet
  finish(first)
  c:release()
  t.equal(done:wait(10), true)
  finish(second)
end

tests["waiters learn that the holder of the lock died"] = function()
  local c, n, notified = fz.condition(), fz.value("i", 0), fz.event()
  local procs = { waiter(c, n), waiting(c, n, function()
    return c:wait_for(function() return n.value > 2 end)
  end), waiting(c, n, function()
    c:acquire(0.3)
    return c:wait(0.3)
  end) }
  local holder <close> = fz.process(function()
    c:acquire()
    c:notify_all()
    notified:set()
    os.execute "sleep 60"
  end):start()
  t.equal(notified:wait(30), true)
  os.execute "sleep 0.4"
  holder:kill()
  local how = {}
  for i = 1, 3 do how[i] = { procs[i]:result(10) } end
  local abandoned = 0
  for _, r in ipairs(how) do
    if r[2] == "abandoned" or r[3] == "abandoned" then abandoned = abandoned + 1 end
  end
  assert(abandoned >= 1)
  t.equal(how[1][1], true)
  finish(table.unpack(procs))
  c:acquire(10)
  c:release()
end

tests["the next to acquire it, too"] = function()
  local c = fz.condition()
  local p <close> = fz.process(function() c:acquire() os.execute "sleep 60" end):start()
  t.until_true(function() return not is_free(c) end)
  p:kill()
  t.equal({ c:acquire(10) }, { true, "abandoned" })
  c:release()
end

tests["Ctrl-C in a wait acquires the lock first, and the next wait works"] = function()
  local out = t.interrupt [[
    local c = fz.condition()
    c:acquire()
    c:acquire()
    local other = fz.process(fz.sleep, 60) -- could end the wait, so it is not a deadlock
    other.daemon = true
    other:start()
    ready()
    local ok, e = pcall(c.wait, c)
    print(ok, e.kind)
    c:release()
    print(c:wait(0.01))
    local p <close> = fz.process(function() return c:acquire(0) end):start()
    print(p:result())
    c:release()
    print(pcall(c.release, c))
  ]]
  t.match(out, "false\tinterrupted\nnil\ttimeout\nfalse\nfalse\t")
end

tests["Ctrl-C while another has the lock: first the lock, then the error"] = function()
  local out = t.interrupt [[
    local c, has = fz.condition(), fz.event()
    c:acquire()
    local p <close> = fz.process(function()
      c:acquire()
      c:notify()
      has:set()
      ready()
      os.execute "sleep 1.5"
      c:release()
    end):start()
    local ok, e = pcall(c.wait, c)
    print(ok, e.kind, has:is_set())
    c:release()
    print((p:join(10)))
  ]]
  t.equal(out, "false\tinterrupted\ttrue\ntrue\n")
end

tests["a callback within a wait can wait for another one"] = function()
  local pool <close> = fz.pool(1)
  local c, d, said = fz.condition(), fz.condition(), nil
  c:acquire()
  pool:apply_async(function() end, {}, { callback = function()
    said = select(2, d:with(d.wait, d, 0.01))
    c:with(c.notify, c)
  end })
  t.equal({ c:wait(10) }, { true })
  t.equal(said, "timeout")
  c:release()
  assert(is_free(d))
end

tests["in messages, and its lock with it"] = function()
  local pool <close> = fz.pool(2)
  pool:apply(function() end)
  local c
  local ready = fz.semaphore(0)
  do
    local lock = fz.lock()
    c = fz.condition(lock)
  end
  assert(pool:apply(function(x) return x end, c) == c)
  local function wait(x)
    x[1]:acquire()
    ready:release()
    local got = x[1]:wait(10)
    x[1]:release()
    return got
  end
  local r = pool:apply_async(wait, { { c } })
  assert(ready:acquire(10))
  collectgarbage()
  for _ = 1, 300 do fz.lock() end
  c:with(c.notify, c)
  t.equal(r:get(10), true)
  c = pool:apply(function() return fz.condition(fz.rlock()) end)
  collectgarbage()
  pool:apply(function() collectgarbage() for _ = 1, 300 do fz.lock():acquire() end end)
  r = pool:apply_async(wait, { { c } })
  assert(ready:acquire(10))
  c:acquire()
  c:acquire()
  c:notify_all()
  c:release()
  c:release()
  t.equal(r:get(10), true)
end

tests["waits, notifications, timeouts and kills of eight processes leave none hanging"] = function()
  local c, items, made = fz.condition(), fz.value("i", 0), fz.value("i", 0)
  local taken, over = fz.value("i", 0), fz.event()
  local function consume(seed)
    math.randomseed(seed)
    local n = 0
    while true do
      c:acquire()
      c:wait_for(function() return items.value > 0 or over:is_set() end,
        math.random(3) == 1 and math.random() / 100 or nil)
      if items.value > 0 then
        items.value = items.value - 1
        taken:add(1)
        n = n + 1
      elseif over:is_set() then
        c:release()
        return n
      end
      c:release()
    end
  end
  local function produce(n)
    for _ = 1, n do
      c:with(function()
        items.value = items.value + 1
        made:add(1)
        c:notify()
      end)
    end
  end
  local consumers, producers, victims = {}, {}, {}
  for i = 1, 4 do consumers[i] = fz.process(consume, i):start() end
  for i = 1, 2 do victims[i] = fz.process(consume, 10 + i):start() end
  for i = 1, 2 do producers[i] = fz.process(produce, 400):start() end
  os.execute "sleep 0.05"
  for i = 1, 2 do victims[i]:kill() end
  finish(table.unpack(producers))
  t.until_true(function() return c:with(function() return items.value <= 0 end) end)
  c:with(function()
    over:set()
    c:notify_all()
  end)
  for _, p in ipairs(consumers) do p:result(10) end
  finish(table.unpack(consumers))
  finish(table.unpack(victims))
  t.equal(made.value, 800)
  assert(math.abs(taken.value - 800) <= 2) -- a killed process may not have counted an item it took
end

tests["waiting costs no time of the processor"] = function()
  local c, before = fz.condition(), os.clock()
  c:acquire()
  t.equal({ c:wait(1) }, { nil, "timeout" })
  c:release()
  assert(os.clock() - before < 0.3)
end

return tests
