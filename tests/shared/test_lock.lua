-- test_lock.lua - fz.lock, fz.rlock: they have one holder at a time, even if processes die.

local t = ...

local tests = {}

local MAKERS = { lock = fz.lock, rlock = fz.rlock }

-- Define a test for both kinds of locks.
local function both(name, f)
  for kind, make in pairs(MAKERS) do
    tests[("%s (%s)"):format(name, kind)] = function() f(make(), kind) end
  end
end

-- A process that has `lock`, acquired by `how` (nil: acquire), until it is killed.
local function holder(lock, how)
  local p = fz.process(function()
    if how then how(lock) else lock:acquire() end
    while true do os.execute "sleep 60" end
  end):start()
  t.until_true(function()
    local got = lock:acquire(0)
    if got then lock:release() end
    return not got
  end)
  return p
end

local function is_free(lock)
  local p <close> = fz.process(function() return lock:acquire(0) end):start()
  return p:result(10)
end

both("what it is, is in its text", function(lock, kind)
  t.match(tostring(lock), kind == "lock" and "fzlua.Lock: 0x" or "fzlua.RLock: 0x")
  assert(lock == lock and lock ~= MAKERS[kind]())
end)

both("acquire and release, each time", function(lock)
  for _ = 1, 3 do
    t.equal({ lock:acquire() }, { true })
    t.equal(select("#", lock:release()), 0)
    t.equal({ lock:acquire(1.5) }, { true })
    lock:release()
  end
end)

both("releasing a lock that is not held raises", function(lock)
  t.match(t.fails("error", lock.release, lock), "does not hold the lock")
  lock:acquire()
  lock:release()
  t.fails("error", lock.release, lock)
end)

both("wrong arguments raise an error at the caller's line", function(lock)
  t.match(t.wrong(function() lock:acquire "soon" end), "number expected, got string")
  t.match(t.wrong(function() lock.acquire(7) end), "fzlua.Lock expected, got number")
  t.match(t.wrong(function() lock.release() end), "fzlua.Lock expected")
  t.match(t.wrong(function() lock:with() end), "function expected, got no value")
  t.match(t.wrong(function() lock.acquire(io.stdout) end), "fzlua.Lock expected")
  assert(is_free(lock))
end)

tests["a lock that this process holds: an error at once, false in time"] = function()
  local lock = fz.lock()
  lock:acquire()
  t.match(t.fails("error", lock.acquire, lock), "holds the lock already")
  t.match(t.fails("error", lock.guard, lock), "holds the lock already")
  t.match(t.fails("error", lock.with, lock, print), "holds the lock already")
  t.equal({ lock:acquire(0) }, { false })
  t.equal({ lock:acquire(0.05) }, { false })
  t.equal({ lock:acquire(-1) }, { false })
  lock:release()
end

tests["an rlock is free once it was released as often as acquired"] = function()
  local lock = fz.rlock()
  for i = 1, 5 do t.equal(lock:acquire(i == 3 and 1 or nil), true) end
  for _ = 1, 5 do
    assert(not is_free(lock))
    lock:release()
  end
  assert(is_free(lock))
  t.fails("error", lock.release, lock)
end

both("with: arguments, results, and it is held meanwhile", function(lock)
  local r = table.pack(lock:with(function(...)
    assert(not is_free(lock))
    return select("#", ...), nil, ...
  end, 1, nil, nil))
  t.equal(r.n, 5)
  t.equal({ r[1], r[3] }, { 3, 1 })
  assert(is_free(lock))
  t.equal(select("#", lock:with(function() end)), 0)
  t.equal({ lock:with(math.max, 3, 4) }, { 4 })
end)

both("with: an error is raised as it is, and nothing is held", function(lock)
  local e = {}
  local ok, got = pcall(lock.with, lock, function() error(e) end)
  assert(not ok and got == e)
  assert(is_free(lock))
  local text = select(2, xpcall(lock.with, debug.traceback, lock, function()
    local function deep_in_f() error "here" end
    deep_in_f()
  end))
  t.match(text, "here", "deep_in_f")
  t.equal(select("#", text:gsub("traceback", "")), 2)
  assert(not pcall(lock.with, lock, 5))
  assert(is_free(lock))
end)

both("with: f may have released it", function(lock)
  t.equal(lock:with(function() lock:release() return 7 end), 7)
  assert(is_free(lock))
end)

both("with: f may yield, and be closed", function(lock)
  local co = coroutine.wrap(function()
    return lock:with(function(a) return coroutine.yield(a + 1) end, 1)
  end)
  t.equal(co(), 2)
  assert(not is_free(lock))
  t.equal(co "last", "last")
  assert(is_free(lock))
  co = coroutine.create(function() lock:with(coroutine.yield) end)
  coroutine.resume(co)
  assert(not is_free(lock))
  coroutine.close(co)
  assert(is_free(lock))
end)

both("a guard: until the scope ends, by an error too, or it is released", function(lock)
  do
    local guard <close> = lock:guard()
    t.match(tostring(guard), "fzlua.Guard")
    assert(not is_free(lock))
  end
  assert(is_free(lock))
  local ok = pcall(function()
    local guard <close> = lock:guard() -- luacheck: ignore
    error "out"
  end)
  assert(not ok and is_free(lock))
  do
    local guard <close> = lock:guard()
    guard:release()
    assert(is_free(lock))
    guard:release()
  end
  do
    local guard <close> = lock:guard() -- luacheck: ignore
    lock:release()
  end
  do
    local guard <close> = lock:guard()
    guard:release()
    lock:acquire() -- the end of the guard does not release this
  end
  assert(not is_free(lock))
  lock:release()
end)

tests["with and guards of an rlock leave it as it was before"] = function()
  local lock = fz.rlock()
  lock:acquire()
  lock:with(function()
    lock:with(function() lock:acquire() end)
    local guard <close> = lock:guard() -- luacheck: ignore
    lock:acquire()
  end)
  assert(not is_free(lock))
  lock:release()
  assert(is_free(lock))
end

both("a child does not hold what its parent holds", function(lock)
  lock:acquire()
  local p <close> = fz.process(function()
    local ok, e = pcall(lock.release, lock)
    return lock:acquire(0.05), ok, e.kind
  end):start()
  t.equal({ p:result(10) }, { false, false, "error" })
  local guard = fz.lock():guard()
  local q <close> = fz.process(function() guard:release() end):start()
  assert(q:join(10))
  lock:release()
  guard:release()
end)

both("one waits until another releases", function(lock)
  lock:acquire()
  local p <close> = fz.process(function()
    t.equal({ lock:acquire() }, { true })
    lock:release()
    return "got it"
  end):start()
  t.equal(p:join(0.1), nil)
  lock:release()
  t.equal(p:result(10), "got it")
end)

both("a lock of a dead holder goes to the next waiter", function(lock)
  for _ = 1, 3 do
    local p <close> = holder(lock)
    p:kill()
    local start = fz.now()
    t.equal({ lock:acquire(10) }, { true, "abandoned" })
    assert(fz.now() - start < 9)
    lock:release()
    t.equal({ lock:acquire() }, { true })
    lock:release()
    t.fails("error", lock.release, lock)
  end
end)

both("a holder that dies in with or with a guard abandons the lock", function(lock)
  local p <close> = holder(lock, function()
    lock:with(os.execute, "sleep 60")
  end)
  p:kill()
  t.equal({ lock:acquire(10) }, { true, "abandoned" })
  lock:release()
  local q <close> = holder(lock, function() return lock:guard() end)
  q:kill()
  local guard, how = lock:guard()
  t.equal(how, "abandoned")
  guard:release()
end)

both("one that waits already finds it abandoned", function(lock)
  local p <close> = holder(lock)
  local q <close> = fz.process(function() return lock:acquire() end):start()
  t.equal(q:join(0.1), nil)
  p:kill()
  t.equal({ q:result(10) }, { true, "abandoned" })
end)

tests["an rlock that was held many times is abandoned as a whole"] = function()
  local lock = fz.rlock()
  local p <close> = holder(lock, function() for _ = 1, 9 do lock:acquire() end end)
  p:kill()
  t.equal({ lock:acquire(10) }, { true, "abandoned" })
  lock:release()
  assert(is_free(lock))
end

both("waiting costs no time of the processor", function(lock)
  local p <close> = holder(lock)
  local before = os.clock()
  t.equal({ lock:acquire(1) }, { false })
  assert(os.clock() - before < 0.3)
  p:kill()
end)

both("Ctrl-C ends a wait", function(_, kind)
  local out = t.interrupt(([[
    local lock = fz.%s()
    local p = fz.process(function() lock:acquire() while true do os.execute "sleep 60" end end)
    p:start()
    while lock:acquire(0) do lock:release() end
    ready()
    local ok, e = pcall(lock.acquire, lock)
    print(ok, e.kind)
    p:kill()
    print(lock:acquire(10))
  ]]):format(kind))
  t.equal(out, "false\tinterrupted\ntrue\tabandoned\n")
end)

both("in messages: arguments, results, tables, upvalues, stages", function(lock)
  local pool <close> = fz.pool(2) -- the workers start before the lock `late` is made
  pool:apply(function() end)
  local late = fz.rlock()
  for _, l in ipairs { lock, late } do
    l:acquire()
    assert(not pool:apply(function(x) return x:acquire(0) end, l))
    assert(not pool:apply(function(x) return x.a[1]:acquire(0) end, { a = { l } }))
    assert(not pool:apply(function() return l:acquire(0) end))
    local back = pool:apply(function(x) return x end, l)
    assert(back == l and tostring(back) == tostring(l))
    l:release()
    t.equal(pool:apply(function(x) return x:with(math.abs, -2) end, l), 2)
  end
  local made = pool:apply(function()
    local new = fz.lock()
    return new
  end)
  t.equal({ made:acquire() }, { true })
  made:release()
  local stage = fz.stage "s"
  stage:register("out", "l", function(l) return { l, l:acquire(0) } end)
  local chain <close> = fz.chain { stage }
  lock:acquire()
  local out = chain { l = lock }.out
  assert(out[1] == lock and out[2] == false)
  lock:release()
end)

tests["a lock cannot be packed"] = function()
  t.match(t.fails("unsendable", fz.pack, { a = fz.lock() }), "Lock")
end

both("without workers", function(lock)
  local in_this_process <close> = t.in_this_process()
  t.equal(fz.map(function(i) return lock:with(math.abs, -i) end, { 1, 2 }), { 1, 2, n = 2 })
  assert(in_this_process)
end)

both("eight that hurry, wait, give up and are killed: one at a time", function(lock, kind)
  local file = t.file ""
  -- Count in a file: if two processes do so at the same time, a count is lost.
  local function count()
    local f <close> = assert(io.open(file, "r+"))
    local n = f:read "n" or 0
    f:seek "set"
    f:write(("%d\n"):format(n + 1))
  end
  local function work(seed, rounds)
    math.randomseed(seed)
    local done = 0
    for _ = 1, rounds do
      if lock:acquire(math.random(3) == 1 and math.random() / 200 or nil) then
        if kind == "rlock" then lock:acquire() end
        count()
        done = done + 1
        if math.random(50) == 1 then os.execute "sleep 0.002" end
        if kind == "rlock" then lock:release() end
        lock:release()
      end
    end
    return done
  end
  local procs = {}
  for i = 1, 8 do
    procs[i] = fz.process(work, i, i > 6 and math.maxinteger or 300):start()
  end
  os.execute "sleep 0.1"
  procs[7]:kill()
  procs[8]:kill()
  assert(procs[7]:join(10) and procs[8]:join(10))
  local sum = 0
  for i = 1, 6 do sum = sum + procs[i]:result(30) assert(procs[i]:join(10)) end
  lock:acquire(10)
  local f <close> = assert(io.open(file))
  assert(f:read "n" >= sum)
  lock:release()
end)

tests["locks that were collected cost nothing"] = function()
  local function shared() -- KiB of shared memory that this process has touched
    for line in io.lines "/proc/self/status" do
      local kb = line:match "^RssShmem:%s+(%d+)"
      if kb then return tonumber(kb) end
    end
  end
  local function make()
    for _ = 1, 1000 do fz.lock():acquire() end
    collectgarbage()
  end
  make()
  local before = shared()
  for _ = 1, 50 do make() end
  assert(shared() - before < 2048) -- one call of make() takes 250 KiB
end

return tests
