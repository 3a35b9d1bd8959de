--- async.lua - the rows of tasks and futures, for run.lua.

local fz = require "fzlua"

local SWITCHES <const>, SLEEPERS <const>, WAITERS <const> = 100000, 10000, 1000
local FUTURES <const> = 100000
local LONG_S <const> = 2

local function constant(value)
  return function() return value end
end

---@param timed fun(f: function, ...): number, any
---@param expect fun(what: string, got: any, wanted: any)
return function(timed, expect)
  local function switch()
    local function pass()
      for _ = 1, SWITCHES do fz.sleep(0) end
      return true
    end
    local function passes() return fz.await { fz.spawn(pass), fz.spawn(pass) }.n end
    local function fzlua()
      local seconds, n = timed(passes)
      expect("tasks", n, 2)
      return seconds / SWITCHES / 2
    end
    return fzlua, constant(1e-6)
  end

  -- Two tasks: one makes futures and awaits them, the other sets them. Two switches per future.
  local function complete(n)
    local pending
    local setter = fz.spawn(function()
      for i = 1, n do
        pending:set_result(i)
        fz.sleep(0)
      end
    end)
    local waiter = fz.spawn(function()
      local sum = 0
      for _ = 1, n do
        sum = sum + pending:await()
        pending = fz.future()
      end
      return sum
    end)
    pending = fz.future()
    fz.await { setter, waiter }
    expect("sum", waiter:await(), n * (n + 1) // 2)
  end

  local function futures()
    return function() return timed(complete, FUTURES) / FUTURES end, constant(2e-6)
  end

  local function futures_pending()
    local function with_pending()
      local list = {}
      for i = 1, FUTURES do list[i] = fz.future() end
      local watcher = fz.spawn(function() for _ in fz.as_completed(list) do error "done" end end)
      fz.sleep(0)
      collectgarbage()
      local seconds = timed(complete, FUTURES)
      watcher:cancel()
      return seconds / FUTURES
    end
    return with_pending, function() return timed(complete, FUTURES) / FUTURES end
  end

  local function sleeping()
    local function sleepers()
      local list = {}
      for i = 1, SLEEPERS do list[i] = fz.spawn(fz.sleep, i % 10 / 1000) end
      return fz.await(list).n
    end
    local function fzlua()
      local seconds, n = timed(sleepers)
      expect("tasks", n, SLEEPERS)
      return seconds / SLEEPERS
    end
    return fzlua, constant(10e-6)
  end

  local function one_future()
    local function waiters()
      local future, list = fz.future(), {}
      for i = 1, WAITERS do list[i] = fz.spawn(future.await, future) end
      fz.spawn(function() future:set_result(1) end)
      return fz.await(list).n
    end
    local function fzlua()
      local seconds, n = timed(waiters)
      expect("tasks", n, WAITERS)
      return seconds / WAITERS
    end
    return fzlua, constant(10e-6)
  end

  -- Two tasks that sleep at the same time.
  local function gather()
    local function both()
      return fz.gather(fz.spawn(fz.sleep, LONG_S), fz.spawn(fz.sleep, LONG_S / 2))
    end
    return function() return timed(both) end, constant(LONG_S)
  end

  -- The second await of a task that has ended.
  local function await_again()
    local future = fz.spawn(function() return 7 end)
    local function awaits()
      local sum = 0
      for _ = 1, SWITCHES do sum = sum + fz.await(future) end
      return sum
    end
    local function fzlua()
      local seconds, sum = timed(awaits)
      expect("sum", sum, 7 * SWITCHES)
      return seconds / SWITCHES
    end
    return fzlua, constant(1e-6)
  end

  return {
    { name = "task_switch", unit = "us", samples = 15, against = "1 us", target = 1,
      peers = true, measure = switch },
    { name = "task_futures", unit = "us", samples = 15, against = "2 us", target = 1,
      peers = true, measure = futures },
    { name = "task_pending", unit = "us", samples = 9, against = "none pending",
      target = 1.3, measure = futures_pending },
    { name = "task_sleeping", unit = "us", samples = 15, against = "10 us", target = 1,
      peers = true, measure = sleeping },
    { name = "task_waiters", unit = "us", samples = 15, against = "10 us", target = 1,
      peers = true, measure = one_future },
    { name = "task_gather", unit = "ms", samples = 3, against = "the longest sleep",
      target = 1.05, measure = gather },
    { name = "task_await_again", unit = "ns", samples = 15, against = "1 us", target = 1,
      measure = await_again },
  }
end
