-- test_wait.lua - every waiting call lets other tasks run.

local t = ...
local fz = require "fzlua"
local wait = require "fzlua.wait"

local tests = {}

local DEADLINE <const> = 30 -- seconds after which a wait counts as endless

-- Run functions as tasks until all have returned. An error of a task is raised.
local function run(functions)
  local tasks = {}
  for i, f in ipairs(functions) do tasks[i] = fz.spawn(f) end
  local done, why = fz.await(tasks, DEADLINE)
  if not done then
    for _, task in ipairs(tasks) do task:cancel() end
    error("the tasks wait for ever: " .. why, 0)
  end
end

tests["tasks pass items through queues of one place"] = function()
  local a, b, sum = fz.queue(1), fz.queue(1), 0
  run {
    function()
      for i = 1, 100 do a:put { i } end
      a:close()
    end,
    function()
      while true do
        local item = a:get()
        if not item then break end
        b:put(item[1])
      end
      b:close()
    end,
    function()
      while true do
        local n = b:get()
        if not n then return end
        sum = sum + n
      end
    end,
  }
  t.equal(sum, 5050)
end

tests["a message that waits for room keeps its handles and bytes"] = function()
  local q, big = fz.queue(1), ("x"):rep(1 << 20)
  local inner = fz.queue()
  inner:put "inside"
  local got = {}
  run {
    function()
      q:put "first"
      q:put { inner, "small" }
      q:put { big, inner }
    end,
    function()
      for i = 1, 3 do got[i] = q:get() end
    end,
  }
  t.equal(got[1], "first")
  t.equal(got[2][2], "small")
  t.equal(got[2][1]:get(), "inside")
  t.equal(got[3][1] == big, true)
end

tests["one waits for a queue, others for a map, a chain, a program and a process"] = function()
  local q, values = fz.queue(), {}
  local stage = fz.stage "s"
  function stage.A(a) return a + 1 end
  local chain <close> = fz.chain { stage }
  local pool <close> = fz.pool(2)
  run {
    function() values.item = q:get() end,
    function() values.map = pool:map(function(x) return 2 * x end, { 1, 2, 3 })[3] end,
    function() values.apply = pool:apply(function() return "applied" end) end,
    function() values.async = pool:apply_async(function() return "async" end):get() end,
    function() values.chain = chain({ a = 41 }).A end,
    function() values.exec = fz.exec({ "echo", "hello" }).stdout end,
    function()
      local p = fz.process(function(other) other:put "from a process" end, q)
      p:start()
      values.join = p:join()
      p:close()
    end,
    function()
      local n = 0
      for _, x in pool:imap(function(x) return x end, { 1, 2, 3 }) do n = n + x end
      values.imap = n
    end,
  }
  t.equal(values, {
    item = "from a process", map = 6, apply = "applied", async = "async", chain = 42,
    exec = "hello\n", join = true, imap = 6,
  })
end

-- A process that waits for `go`, and then calls f(...).
local function after(go, f, ...)
  local p = fz.process(function(...)
    go:wait()
    f(...)
  end, ...)
  p:start()
  return p
end

tests["locks, semaphores, conditions, events and pipes let other tasks run"] = function()
  local held, started, go = fz.lock(), fz.event(), fz.event()
  local sem, cond, event = fz.semaphore(0), fz.condition(), fz.event()
  local here, there = fz.pipe()
  local holder = fz.process(function()
    held:acquire()
    started:set()
    go:wait()
    held:release()
    sem:release(2)
    cond:with(function() cond:notify() end)
    event:set()
    there:send { "sent" }
  end)
  holder:start()
  started:wait()
  local order, seen = {}, {}
  run {
    function() seen.with = held:with(function(x) return x end, "in the lock") end,
    function() seen.acquire = sem:acquire() end,
    function()
      local g <close> = sem:guard()
      seen.guard = g ~= nil
    end,
    function() seen.condition = cond:with(function() return cond:wait() end) end,
    function() seen.event = event:wait() end,
    function() seen.poll = here:poll(10) end,
    function() seen.timeout = table.pack(fz.event():wait(0.01))[2] end,
    function()
      order[#order + 1] = "last"
      go:set()
    end,
  }
  holder:join()
  holder:close()
  t.equal(here:recv(), { "sent" })
  t.equal(seen, {
    with = "in the lock", acquire = true, guard = true, condition = true, event = true,
    poll = true, timeout = "timeout",
  })
  t.equal(order, { "last" })
end

tests["a barrier lets other tasks run"] = function()
  local barrier, go, seen = fz.barrier(2), fz.event(), {}
  local p = after(go, function() barrier:wait() end)
  run {
    function() seen.place = barrier:wait() end,
    function() go:set() end,
  }
  p:join()
  p:close()
  t.equal(seen.place, 0)
end

tests["wait_for calls its function in the task, which may wait as well"] = function()
  local cond, q, go = fz.condition(), fz.queue(), fz.event()
  local flag = fz.value("i", 0)
  local p = after(go, function()
    cond:with(function()
      flag.value = 1
      cond:notify_all()
    end)
  end)
  local calls, result = 0, nil
  run {
    function()
      cond:with(function()
        result = cond:wait_for(function()
          calls = calls + 1
          q:get()
          return flag.value == 1 and "set"
        end, DEADLINE)
      end)
    end,
    function()
      q:put(1)
      q:put(2)
      go:set()
    end,
  }
  p:join()
  p:close()
  t.equal(result, "set")
  t.equal(calls, 2)
end

tests["a change pumps the watcher of that object and no other"] = function()
  local pumped = 0
  local pool <close> = fz.pool(1)
  local first = pool:apply_async(function() return 1 end)
  local _ <close> = setmetatable({}, { __close = function()
    for id = 1, 1000 do wait.unwatch(-id) end
  end })
  for id = 1, 1000 do
    wait.watch(-id, { pump = function() pumped = pumped + 1 end })
  end
  t.equal(first:get(), 1)
  t.equal(pool:map(function(x) return x end, { 1, 2, 3 })[3], 3)
  t.equal(pumped, 0)
end

return tests
