-- test_semaphore.lua - fz.semaphore, fz.bounded_semaphore: the number of holders has a limit.

local t = ...

local tests = {}

tests["as many as there are, then false"] = function()
  local s = fz.semaphore(2)
  t.match(tostring(s), "fzlua.Semaphore: 0x")
  t.equal({ s:acquire() }, { true })
  t.equal({ s:acquire(1) }, { true })
  t.equal({ s:acquire(0) }, { false })
  t.equal({ s:acquire(0.05) }, { false })
  t.equal(s:value(), 0)
  t.equal(select("#", s:release()), 0)
  t.equal({ s:acquire() }, { true })
end

tests["any process may release, and more than there were"] = function()
  local s = fz.semaphore(0)
  local p <close> = fz.process(function() s:release() s:release(3) end):start()
  for _ = 1, 4 do t.equal(s:acquire(10), true) end
  t.equal(s:acquire(0), false)
  assert(p:join(10))
end

tests["a bounded one raises above what it began with"] = function()
  local s = fz.bounded_semaphore(2)
  t.match(t.fails("error", s.release, s), "more often than acquired")
  s:acquire()
  s:acquire()
  t.fails("error", s.release, s, 3)
  t.equal(s:value(), 0)
  s:release(2)
  t.fails("error", s.release, s)
  t.equal(s:value(), 2)
  t.fails("error", function() local none = fz.bounded_semaphore(0) none:release() end)
  local most = fz.semaphore(math.maxinteger)
  t.fails("error", most.release, most)
end

tests["wrong arguments raise an error at the caller's line"] = function()
  t.match(t.wrong(function() fz.semaphore() end), "number expected, got no value")
  t.match(t.wrong(function() fz.semaphore(-1) end), "must not be negative")
  t.match(t.wrong(function() fz.bounded_semaphore(-1) end), "must not be negative")
  t.match(t.wrong(function() fz.semaphore(1.5) end), "no integer representation")
  local s = fz.semaphore(1)
  t.match(t.wrong(function() s:release(0) end), "must be at least 1")
  t.match(t.wrong(function() s:release(-1) end), "must be at least 1")
  t.match(t.wrong(function() s:acquire "now" end), "number expected")
  t.match(t.wrong(function() s.acquire(fz.lock()) end), "fzlua.Semaphore expected")
  t.equal(s:value(), 1)
end

tests["with and guards give back what they took, once"] = function()
  local s = fz.bounded_semaphore(1)
  t.equal({ s:with(function(a) return s:value(), a end, 7) }, { 0, 7 })
  assert(not pcall(s.with, s, error, "x"))
  t.equal(s:value(), 1)
  do
    local guard <close> = s:guard()
    t.equal(s:value(), 0)
    guard:release()
    t.equal(s:value(), 1)
  end
  t.equal(s:value(), 1)
  local guard = s:guard()
  local p <close> = fz.process(function() guard:release() return s:value() end):start()
  t.equal(p:result(10), 0)
  guard:release()
  t.equal(s:value(), 1)
end

tests["all that sleep are woken by as many releases"] = function()
  local s, done = fz.semaphore(0), fz.semaphore(0)
  local procs = {}
  for i = 1, 6 do
    procs[i] = fz.process(function() s:acquire() done:release() end):start()
  end
  t.until_asleep(procs)
  s:release(2)
  for _ = 1, 2 do assert(done:acquire(10)) end
  t.equal(done:acquire(0.1), false)
  for _ = 1, 4 do s:release() end
  for _ = 1, 4 do assert(done:acquire(10)) end
  for _, p in ipairs(procs) do assert(p:join(10)) end
end

tests["a waiter that is killed when woken keeps no other asleep"] = function()
  local s, done = fz.semaphore(0), fz.semaphore(0)
  local procs = {}
  for i = 1, 4 do
    procs[i] = fz.process(function() s:acquire() done:release() end):start()
  end
  t.until_asleep(procs)
  procs[1]:kill()
  s:release(4)
  for _ = 1, 3 do assert(done:acquire(10)) end
  for _, p in ipairs(procs) do assert(p:join(10)) end
  assert(s:value() + (done:acquire(0) and 1 or 0) <= 1)
end

tests["eight that hurry, wait and give up: never more than three at once"] = function()
  local s, inside, most = fz.bounded_semaphore(3), fz.value("i", 0), fz.value("i", 0)
  local function work(seed)
    math.randomseed(seed)
    for _ = 1, 300 do
      if s:acquire(math.random(3) == 1 and math.random() / 200 or nil) then
        local n = inside:add(1)
        most:with(function() if n > most.value then most.value = n end end)
        if math.random(100) == 1 then os.execute "sleep 0.001" end
        inside:add(-1)
        s:release()
      end
    end
  end
  local procs = {}
  for i = 1, 8 do procs[i] = fz.process(work, i):start() end
  for _, p in ipairs(procs) do
    p:result(30)
    assert(p:join(10))
  end
  assert(most.value >= 1 and most.value <= 3)
  t.equal({ s:value(), inside.value }, { 3, 0 })
end

tests["in messages"] = function()
  local pool <close> = fz.pool(2)
  pool:apply(function() end)
  local s = fz.semaphore(2)
  t.equal(pool:apply(function(x) return x:acquire() end, s), true)
  t.equal(pool:apply(function() return s:acquire() end), true)
  t.equal(s:value(), 0)
  local back = pool:apply(function(x) return { x } end, s)[1]
  assert(back == s)
  back:release()
  t.equal(s:value(), 1)
end

tests["waiting costs no time of the processor"] = function()
  local s, before = fz.semaphore(0), os.clock()
  t.equal(s:acquire(1), false)
  assert(os.clock() - before < 0.3)
end

return tests
