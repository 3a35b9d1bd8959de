-- test_places.lua - tasks, and calls that wait, return the same results at each place: at the top
-- of a script, in a task, in a generator, in a callback, in a worker.

local t = ...
local fz = require "fzlua"

local DEADLINE <const> = 30

local function noting_close(notes, name)
  return setmetatable({}, { __close = function() notes[#notes + 1] = name end })
end

local function nap(seconds, ...)
  fz.sleep(seconds)
  return ...
end

local function sleep_and_note(notes, name)
  local _ <close> = noting_close(notes, name)
  fz.sleep(1000)
end

local function double(x) return 2 * x end

-- name -> {the results, the function that must return them in each place}
local CASES = {
  ["sleeps that are gathered overlap"] = { { "long", "short", order = { "short", "long" } },
    function()
      local order = {}
      local function note(seconds, name)
        fz.sleep(seconds)
        order[#order + 1] = name
        return name
      end
      local results = { fz.gather(fz.spawn(note, 0.2, "long"), fz.spawn(note, 0.1, "short")) }
      results.order = order
      return results
    end },
  ["a task that is awaited again returns at once"] = { { "kept", "kept", 0 }, function()
    local runs, task = 0, fz.spawn(nap, 0.001, "kept")
    local first = task:await()
    local other = fz.spawn(function() runs = runs + 1 end)
    local second, ran = task:await(), runs
    other:await()
    return { first, second, ran }
  end },
  ["an error in a group cancels the others"] = { { false, "broken", "first", "second" }, function()
    local notes = {}
    local ok, e = pcall(fz.group, function(g)
      g:spawn(sleep_and_note, notes, "first")
      g:spawn(sleep_and_note, notes, "second")
      g:spawn(function()
        fz.sleep(0.001)
        error("broken", 0)
      end)
    end)
    return { ok, e, table.unpack(notes) }
  end },
  ["a future that is set wakes all its waiters"] = { { 7, 7, 7, n = 3 }, function()
    local future, waiters = fz.future(), {}
    for i = 1, 3 do waiters[i] = fz.spawn(function() return future:await() end) end
    fz.spawn(function()
      fz.sleep(0.001)
      future:set_result(7)
    end)
    return fz.await(waiters)
  end },
  ["cancel closes variables"] = { { "closed", true, false, "cancelled" }, function()
    local notes = {}
    local task = fz.spawn(sleep_and_note, notes, "closed")
    fz.sleep(0.001)
    local first, second = task:cancel(), task:cancel()
    local _, e = pcall(task.await, task)
    return { notes[1], first, second, e.kind }
  end },
  ["with_timeout ends what takes too long"] = { { nil, "timeout", "closed" }, function()
    local notes = {}
    local value, why = fz.with_timeout(0.01, sleep_and_note, notes, "closed")
    return { value, why, notes[1] }
  end },
  ["as_completed yields in the order of the ends"] = { { "quick", "slow" }, function()
    local order = {}
    for f in fz.as_completed { fz.spawn(nap, 0.1, "slow"), fz.spawn(nap, 0.001, "quick") } do
      order[#order + 1] = f:await()
    end
    return order
  end },
  ["a task takes what another one puts"] = { { 1, 2, 3 }, function()
    local q, got = fz.queue(1), {}
    fz.group(function(g)
      g:spawn(function()
        for i = 1, 3 do q:put(i) end
        q:close()
      end)
      for item in function() return q:get() end do got[#got + 1] = item end
    end)
    return got
  end },
  ["queues, pipes, locks and events run out of time"] = {
    { "timeout", "timeout", false, false, "timeout", "timeout", false }, function()
      local q, a, b = fz.queue(1), fz.pipe()
      local lock, semaphore = fz.lock(), fz.semaphore(0)
      lock:acquire()
      q:put "full"
      local other = fz.spawn(function() return lock:acquire(0.01) end)
      return {
        select(2, a:recv(0.01)), select(2, q:put("more", 0.01)), b:poll(0.01),
        semaphore:acquire(0.01), select(2, fz.event():wait(0.01)),
        select(2, fz.barrier(2):wait(0.01)), other:await(),
      }
    end },
  ["a condition and a pipe pass on what a task does"] = { { true, "sent" }, function()
    local condition, a, b = fz.condition(), fz.pipe()
    local is_set = false
    fz.spawn(function()
      fz.sleep(0.001)
      condition:with(function()
        is_set = true
        condition:notify_all()
      end)
      b:send "sent"
    end)
    return {
      condition:with(function()
        return condition:wait_for(function() return is_set end, DEADLINE)
      end),
      a:recv(),
    }
  end },
  ["pools"] = { { 2, 4, { 2, 4, n = 2 }, 6, 6 }, function()
    local pool <close> = fz.pool(1)
    local sum = 0
    for _, x in pool:imap(double, { 1, 2 }) do sum = sum + x end
    local function add(x, y) return x + y end
    return {
      pool:apply(double, 1), pool:apply_async(double, { 2 }):get(), pool:map(double, { 1, 2 }),
      sum, pool:fold(add, { 1, 2, 3 }, 0, add),
    }
  end },
  ["maps"] = { { 2, 4, n = 2 }, function() return fz.map(double, { 1, 2 }) end },
  ["chains, and streams"] = { { 4, 4, 8, 12 }, function()
    local first, second = fz.stage "first", fz.stage "second"
    first:register("x", double)
    second:register("x", double)
    local chain <close> = first >> second
    local results = { chain { x = 1 }.x }
    for _, out in chain:stream { 1, 2, 3 } do results[#results + 1] = out.x end
    return results
  end },
  ["processes and programs"] = { { "result", true, 0, "text\n" }, function()
    local p <close> = fz.process(function() return "result" end):start()
    return { p:result(), p:join(), p.exitcode, fz.exec({ "echo", "text" }).stdout }
  end },
  ["a manager"] = { { 3, 2 }, function()
    local m <close> = fz.manager()
    local d = m:dict { n = 1 }
    d:incr("n", 2)
    return { d.n, d:incr "m" + 1 }
  end },
}

-- name -> f(case): calls case() in that place, and returns its result
local PLACES = {
  ["at the top"] = function(case) return case() end,
  ["in a task"] = function(case) return fz.spawn(case):await() end,
  ["in a generator"] = function(case)
    return coroutine.wrap(function() coroutine.yield(case()) end)()
  end,
  ["in a generator of a task"] = function(case)
    return fz.spawn(function()
      return coroutine.wrap(function() coroutine.yield(case()) end)()
    end):await()
  end,
  ["where a task cannot be suspended"] = function(case)
    return fz.spawn(function()
      local result
      table.sort({ 1, 2 }, function(a, b)
        result = result or case()
        return a < b
      end)
      return result
    end):await()
  end,
  ["in a callback"] = function(case)
    local pool <close> = fz.pool(1)
    local future = fz.future()
    pool:apply_async(function() end, {}, { callback = function()
      local ok, result = pcall(case)
      if ok then future:set_result(result) else future:set_error(result) end
    end })
    return future:await(DEADLINE)
  end,
  ["in a worker"] = function(case)
    local pool <close> = fz.pool(1)
    return pool:apply(case)
  end,
  ["in a task of a worker"] = function(case)
    local pool <close> = fz.pool(1)
    return pool:apply(function() return fz.spawn(case):await() end)
  end,
  ["in a process"] = function(case)
    local p <close> = fz.process(case):start()
    return p:result()
  end,
  ["in a source"] = function(case)
    local pool <close> = fz.pool(1)
    local result
    for _ in pool:imap(double, function()
      if result then return nil end
      result = case()
      return 1
    end) do end
    return result
  end,
  ["in a close handler"] = function(case)
    local result
    do
      local _ <close> = setmetatable({}, { __close = function() result = case() end })
    end
    return result
  end,
  ["without workers"] = function(case)
    local _ <close> = t.in_this_process()
    return case()
  end,
}

local tests = {}

for place, call in pairs(PLACES) do
  for name, case in pairs(CASES) do
    tests[("%s: %s"):format(place, name)] = function() t.equal(call(case[2]), case[1]) end
  end
end

return tests
