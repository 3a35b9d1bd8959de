-- test_task_locks.lua - shared objects between the tasks of one process.

local t = ...
local fz = require "fzlua"

local tests = {}

local DEADLINE <const> = 30

-- Run functions as tasks until all have returned.
local function run(...)
  local tasks = {}
  for i, f in ipairs { ... } do tasks[i] = fz.spawn(f) end
  assert(fz.await(tasks, DEADLINE))
end

for _, kind in ipairs { "lock", "rlock" } do
  tests["a task waits for the " .. kind .. " of another"] = function()
    local lock, order = fz[kind](), {}
    local function section(name)
      lock:with(function()
        order[#order + 1] = name .. " begins"
        fz.sleep(0.01)
        order[#order + 1] = name .. " ends"
      end)
    end
    run(function() section "a" end, function() section "b" end, function() section "c" end)
    t.equal(order, { "a begins", "a ends", "b begins", "b ends", "c begins", "c ends" })
    t.equal(lock:acquire(0), true)
  end

  tests["the script waits for the " .. kind .. " of a task"] = function()
    local lock, held, refused = fz[kind](), false, fz.future()
    fz.spawn(function()
      lock:acquire()
      held = true
      refused:await()
      fz.sleep(0.001)
      held = false
      lock:release()
    end)
    fz.sleep(0)
    t.equal(held, true)
    t.equal(lock:acquire(0), false)
    refused:set_result()
    t.equal(lock:acquire(), true)
    t.equal(held, false)
  end

  tests["another task cannot release a " .. kind] = function()
    local lock = fz[kind]()
    local holder = fz.spawn(function()
      lock:acquire()
      fz.sleep(1000)
    end)
    fz.sleep(0.001)
    t.match(t.fails("error", lock.release, lock).message, "another task")
    local e = t.fails("error", fz.await, fz.spawn(lock.release, lock))
    t.match(e.message, "another task")
    holder:cancel()
  end
end

tests["a lock that the task has raises, and an rlock counts"] = function()
  local lock, rlock, order = fz.lock(), fz.rlock(), {}
  run(function()
    lock:acquire()
    t.match(t.fails("error", lock.acquire, lock).message, "this task holds the lock already")
    t.equal(lock:acquire(0.01), false)
    lock:release()
  end, function()
    rlock:acquire()
    rlock:acquire()
    fz.sleep(0.01)
    rlock:release()
    fz.sleep(0.01)
    order[#order + 1] = "first"
    rlock:release()
  end, function()
    rlock:acquire()
    order[#order + 1] = "second"
    rlock:release()
  end)
  t.equal(order, { "first", "second" })
end

tests["a lock is held in the generators of its task"] = function()
  local lock = fz.lock()
  run(function()
    lock:acquire()
    coroutine.wrap(function()
      fz.sleep(0.001)
      lock:release()
    end)()
    t.equal(lock:acquire(0), true)
    lock:release()
  end)
end

tests["a guard of a task that ends releases for that task"] = function()
  local lock, waits = fz.lock(), false
  local holder = fz.spawn(function()
    local _ <close> = lock:guard()
    waits = true
    fz.sleep(1000)
  end)
  fz.sleep(0.001)
  t.equal(waits, true)
  run(function() holder:cancel() end)
  t.equal(lock:acquire(0), true)
end

tests["several tasks wait for one condition, and notify wakes the first ones"] = function()
  local cond, woken = fz.condition(), {}
  local tasks = {}
  for i = 1, 4 do
    tasks[i] = fz.spawn(function()
      cond:with(function() cond:wait() end)
      woken[#woken + 1] = i
    end)
  end
  fz.sleep(0.005)
  cond:with(function() cond:notify(2) end)
  fz.await({ tasks[1], tasks[2] }, DEADLINE)
  table.sort(woken)
  t.equal(woken, { 1, 2 })
  cond:with(function() cond:notify_all() end)
  fz.await(tasks, DEADLINE)
  table.sort(woken)
  t.equal(woken, { 1, 2, 3, 4 })
end

tests["tasks of several processes wait for one condition"] = function()
  local cond, ready, woken = fz.condition(), fz.semaphore(0), fz.value("i", 0)
  local function wait()
    cond:with(function()
      ready:release()
      cond:wait(DEADLINE)
    end)
    woken:add(1)
  end
  local p <close> = fz.process(function() run(wait, wait, wait) end):start()
  local own = { fz.spawn(wait), fz.spawn(wait) }
  for _ = 1, 5 do ready:acquire() end
  cond:with(function() cond:notify(5) end)
  fz.await(own, DEADLINE)
  t.equal(p:join(DEADLINE), true)
  t.equal(woken.value, 5)
end

tests["many tasks meet at a barrier, again and again"] = function()
  local barrier, places = fz.barrier(20), {}
  local tasks = {}
  for _ = 1, 20 do
    tasks[#tasks + 1] = fz.spawn(function()
      for round = 1, 3 do
        local place = barrier:wait()
        places[round] = places[round] or {}
        places[round][place] = true
      end
    end)
  end
  assert(fz.await(tasks, DEADLINE))
  for round = 1, 3 do
    t.equal(#places[round], 19)
    t.equal(places[round][0], true)
  end
end

tests["the action of a barrier may wait, while other tasks arrive"] = function()
  local acted = 0
  local barrier = fz.barrier(2, function()
    fz.sleep(0.02)
    acted = acted + 1
  end)
  local function meet() barrier:wait() end
  run(meet, meet, meet, meet)
  t.equal(acted, 2)
  local inside
  inside = fz.barrier(1, function() inside:wait() end)
  local e = t.fails("error", fz.await, fz.spawn(inside.wait, inside))
  t.match(e.message, "cannot wait for it")
end

tests["an event wakes all tasks, a semaphore as many as it has permits"] = function()
  local event, sem, woken, held = fz.event(), fz.semaphore(0), 0, 0
  local tasks = {}
  for _ = 1, 10 do
    tasks[#tasks + 1] = fz.spawn(function()
      event:wait()
      woken = woken + 1
      sem:acquire()
      held = held + 1
    end)
  end
  fz.sleep(0.001)
  t.equal(woken, 0)
  event:set()
  event:clear()
  local deadline = fz.now() + DEADLINE
  while woken < 10 and fz.now() < deadline do fz.sleep(0.001) end
  t.equal({ woken, held }, { 10, 0 })
  sem:release(3)
  while held < 3 and fz.now() < deadline do fz.sleep(0.001) end
  fz.sleep(0.01)
  t.equal(held, 3)
  sem:release(7)
  assert(fz.await(tasks, DEADLINE))
end

tests["a value's lock is held by a task that waits inside"] = function()
  local value, order = fz.value("i", 0), {}
  run(function()
    value:with(function(v)
      local before = v.value
      fz.sleep(0.02)
      v.value = before + 1
      order[#order + 1] = "with"
    end)
  end, function()
    fz.sleep(0.001)
    value:add(10)
    order[#order + 1] = "add"
  end)
  t.equal({ value.value, order }, { 11, { "with", "add" } })
end

tests["many tasks take from one queue, and each item is taken once"] = function()
  local q, got, tasks = fz.queue(), {}, {}
  for _ = 1, 50 do
    tasks[#tasks + 1] = fz.spawn(function()
      for item in function() return q:get() end do got[#got + 1] = item end
    end)
  end
  local p <close> = fz.process(function()
    for i = 1, 1000 do q:put(i) end
    q:close()
  end):start()
  assert(fz.await(tasks, DEADLINE))
  table.sort(got)
  t.equal(got, t.numbers(1000))
  p:join()
end

tests["a task gets the lock of a process that died"] = function()
  local lock, held = fz.lock(), fz.event()
  local p <close> = fz.process(function()
    lock:acquire()
    held:set()
    fz.sleep(1000)
  end):start()
  held:wait()
  local task = fz.spawn(function() return lock:acquire() end)
  fz.sleep(0.01)
  p:kill()
  t.equal({ task:await(DEADLINE) }, { true, "abandoned" })
end

for _, kind in ipairs { "lock", "rlock", "condition" } do
  -- Each way for a task to end while it holds the lock.
  local ways = {
    returns = function(lock) fz.spawn(function() lock:acquire() end):await() end,
    raises = function(lock)
      pcall(fz.await, fz.spawn(function()
        lock:acquire()
        error "x"
      end))
    end,
    cancelled = function(lock)
      local task = fz.spawn(function()
        lock:acquire()
        fz.sleep(1000)
      end)
      fz.sleep(0)
      task:cancel()
    end,
    in_a_group = function(lock)
      pcall(fz.group, function(g)
        g:spawn(function() lock:acquire() end)
      end)
    end,
    guard = function(lock)
      local task = fz.spawn(function() return lock:guard() end)
      return task:await()
    end,
  }

  tests["a task that ends leaves its " .. kind .. " to the next, once"] = function()
    for name, end_task in pairs(ways) do
      local lock = fz[kind]()
      local kept = end_task(lock)
      t.equal({ name, lock:acquire() }, { name, true, "abandoned" })
      lock:release()
      t.equal({ kept ~= nil, lock:acquire(0) }, { name == "guard", true })
      lock:release()
      end_task(lock)
      local p <close> = fz.process(function() return lock:acquire() end):start()
      t.equal({ name, p:result() }, { name, true, "abandoned" })
    end
  end

  tests["waiters get the " .. kind .. " of a task that ends"] = function()
    local lock, waits = fz[kind](), fz.event()
    local holder = fz.spawn(function()
      lock:acquire()
      fz.sleep(1000)
    end)
    fz.sleep(0)
    local other = fz.spawn(function()
      local result = { lock:acquire() }
      lock:release()
      return result
    end)
    fz.sleep(0)
    holder:cancel()
    t.equal(other:await(DEADLINE), { true, "abandoned" })
    holder = fz.spawn(function()
      lock:acquire()
      fz.sleep(1000)
    end)
    fz.sleep(0)
    local p <close> = fz.process(function()
      waits:set()
      return lock:acquire(DEADLINE)
    end):start()
    waits:wait()
    t.until_asleep { p }
    holder:cancel()
    t.equal({ p:result() }, { true, "abandoned" })
  end
end

tests["an rlock is left however often it was acquired"] = function()
  local lock = fz.rlock()
  fz.spawn(function()
    lock:acquire()
    lock:acquire()
  end):await()
  t.equal({ lock:acquire() }, { true, "abandoned" })
  lock:release()
  t.fails("error", lock.release, lock)
end

tests["a condition leaves the lock that it was given"] = function()
  local lock = fz.lock()
  local condition = fz.condition(lock)
  fz.spawn(function() condition:acquire() end):await()
  t.equal({ lock:acquire() }, { true, "abandoned" })
  lock:release()
  local waiter = fz.spawn(function()
    condition:acquire()
    condition:wait()
  end)
  fz.sleep(0)
  t.equal({ lock:acquire(0) }, { true })
  condition:notify()
  lock:release()
  waiter:await(DEADLINE)
  t.equal({ lock:acquire() }, { true, "abandoned" })
end

tests["with and guards of cancelled tasks release as before"] = function()
  local lock = fz.lock()
  local task = fz.spawn(function() lock:with(fz.sleep, 1000) end)
  fz.sleep(0)
  task:cancel()
  t.equal({ lock:acquire() }, { true })
  lock:release()
  task = fz.spawn(function()
    local _ <close> = lock:guard()
    fz.sleep(1000)
  end)
  fz.sleep(0)
  task:cancel()
  t.equal({ lock:acquire() }, { true })
end

tests["what runs for the caller leaves it the locks"] = function()
  local lock = fz.lock()
  fz.spawn(function()
    fz.with_timeout(DEADLINE, lock.acquire, lock)
    t.fails("error", lock.acquire, lock)
    lock:release()
    fz.group(function() lock:acquire() end)
    lock:release()
  end):await()
  t.equal({ lock:acquire(0) }, { true })
end

tests["a lock that was collected is not left"] = function()
  fz.spawn(function()
    fz.lock():acquire()
    collectgarbage()
    local locks = {}
    for i = 1, 100 do locks[i] = fz.lock() end
    fz.sleep(0)
    return locks
  end):await()
  local lock = fz.lock()
  t.equal({ lock:acquire(0) }, { true })
end

return tests
