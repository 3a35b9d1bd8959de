-- test_event.lua - fz.event: a set event ends all its waits.

local t = ...

local tests = {}

tests["set, clear, is_set, wait"] = function()
  local e = fz.event()
  t.match(tostring(e), "fzlua.Event: 0x")
  t.equal(e:is_set(), false)
  t.equal({ e:wait(0) }, { nil, "timeout" })
  t.equal({ e:wait(0.05) }, { nil, "timeout" })
  t.equal(select("#", e:set()), 0)
  e:set()
  t.equal(e:is_set(), true)
  t.equal({ e:wait() }, { true })
  t.equal({ e:wait(0) }, { true })
  t.equal(select("#", e:clear()), 0)
  e:clear()
  t.equal(e:is_set(), false)
  t.equal({ e:wait(0) }, { nil, "timeout" })
end

tests["wrong arguments raise an error at the caller's line"] = function()
  local e = fz.event()
  e:set()
  t.match(t.wrong(function() e:wait "now" end), "number expected")
  t.match(t.wrong(function() e.set() end), "fzlua.Event expected")
  t.match(t.wrong(function() e.wait(fz.lock()) end), "fzlua.Event expected")
end

-- Start n processes that wait for `e`. Each of them releases `ready` just before it waits.
local function waiters(n, e, ready)
  local procs = {}
  for i = 1, n do
    procs[i] = fz.process(function()
      ready:release()
      return e:wait()
    end):start()
  end
  for _ = 1, n do assert(ready:acquire(10)) end
  return procs
end

tests["set wakes all waiters, in processes made before and after"] = function()
  local e, ready = fz.event(), fz.semaphore(0)
  local procs = waiters(6, e, ready)
  e:set()
  local late = waiters(1, e, ready)[1]
  procs[#procs + 1] = late
  for _, p in ipairs(procs) do
    t.equal({ p:result(10) }, { true })
    assert(p:join(10))
  end
end

tests["set and clear at once wake all waiters"] = function()
  for _ = 1, 20 do
    local e, ready = fz.event(), fz.semaphore(0)
    local procs = waiters(2, e, ready)
    t.until_asleep(procs)
    e:set()
    e:clear()
    for _, p in ipairs(procs) do
      t.equal({ p:result(10) }, { true })
      assert(p:join(10))
    end
    t.equal({ e:wait(0) }, { nil, "timeout" })
  end
end

tests["a process that is killed between waits harms no other"] = function()
  local there, back = fz.event(), fz.event()
  local p <close> = fz.process(function()
    for _ = 1, 500 do
      there:wait()
      there:clear()
      back:set()
    end
  end):start()
  local q <close> = fz.process(function() while true do there:wait(0.001) end end):start()
  for i = 1, 500 do
    there:set()
    assert(back:wait(10))
    back:clear()
    if i == 250 then q:kill() end
  end
  assert(p:join(10) and q:join(10))
end

tests["in messages"] = function()
  local pool <close> = fz.pool(2)
  pool:apply(function() end)
  local e, f = fz.event(), fz.event()
  local r = pool:apply_async(function(x) x[1]:set() return f:wait(10) end, { { e } })
  t.equal(e:wait(10), true)
  f:set()
  t.equal(r:get(10), true)
  assert(pool:apply(function(x) return x end, e) == e)
end

tests["results of a pool arrive meanwhile, and callbacks are called"] = function()
  local pool <close> = fz.pool(2)
  local e = fz.event()
  pool:apply_async(function(a) return a + 1 end, { 1 }, { callback = function(v)
    if v == 2 then e:set() end
  end })
  t.equal(e:wait(10), true)
end

tests["Ctrl-C ends a wait"] = function()
  local out = t.interrupt [[
    local e = fz.event()
    local other = fz.process(fz.sleep, 60) -- could end the wait, so it is not a deadlock
    other.daemon = true
    other:start()
    ready()
    local ok, err = pcall(e.wait, e)
    print(ok, err.kind, e:wait(0))
  ]]
  t.equal(out, "false\tinterrupted\tnil\ttimeout\n")
end

tests["waiting costs no time of the processor"] = function()
  local e, before = fz.event(), os.clock()
  t.equal({ e:wait(1) }, { nil, "timeout" })
  assert(os.clock() - before < 0.3)
end

return tests
