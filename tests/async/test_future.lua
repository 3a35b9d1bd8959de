-- test_future.lua - futures: which waits they end, which errors are logged, and the futures that
-- pools, maps and other calls return.

local t = ...
local fz = require "fzlua"

local tests = {}

local DEADLINE <const> = 30

tests["a future set by another task wakes its waiters in the order of their awaits"] = function()
  local future, order = fz.future(), {}
  local tasks = {}
  for i = 1, 5 do
    tasks[i] = fz.spawn(function()
      local a, b = future:await()
      order[#order + 1] = { i, a, b }
    end)
  end
  fz.spawn(function()
    t.equal(#order, 0)
    future:set_result("a", "b")
  end)
  fz.await(tasks, DEADLINE)
  t.equal(order, { { 1, "a", "b" }, { 2, "a", "b" }, { 3, "a", "b" }, { 4, "a", "b" },
    { 5, "a", "b" } })
end

tests["a future is settled once"] = function()
  local future = fz.future()
  t.equal({ future:done(), tostring(future) }, { false, "fzlua.Future (pending)" })
  future:set_result()
  t.equal({ future:done(), select("#", future:await()) }, { true, 0 })
  t.fails("error", future.set_result, future, 1)
  t.fails("error", future.set_error, future, 1)
  t.equal(future:cancel(), false)
  local failed = fz.future()
  failed:set_error { code = 7 }
  t.equal(select(2, pcall(failed.await, failed)), { code = 7 })
end

tests["a waiter whose time ran out is not woken, and the others are"] = function()
  local future, seen = fz.future(), {}
  local early = fz.spawn(function() seen.early = { future:await(0.01) } end)
  local late = fz.spawn(function() seen.late = { future:await(DEADLINE) } end)
  early:await()
  future:set_result(1)
  late:await()
  t.equal(seen, { early = { nil, "timeout" }, late = { 1 } })
end

tests["a thousand tasks await one future, ten thousand sleep"] = function()
  local future, n = fz.future(), 0
  local tasks = {}
  for i = 1, 1000 do
    tasks[i] = fz.spawn(function()
      local result = future:await()
      n = n + result
    end)
  end
  for i = 1, 10000 do tasks[1000 + i] = fz.spawn(fz.sleep, (i % 10) / 1000) end
  fz.spawn(function() future:set_result(2) end)
  fz.await(tasks, DEADLINE)
  t.equal(n, 2000)
end

tests["the settling of one future costs the same with many pending ones"] = function()
  local pending, woken = {}, 0
  for i = 1, 20000 do pending[i] = fz.future() end
  local all = fz.spawn(function()
    for _ in fz.as_completed(pending) do woken = woken + 1 end
  end)
  fz.sleep(0)
  for _ = 1, 1000 do
    local future = fz.future()
    local task = fz.spawn(future.await, future)
    fz.sleep(0)
    future:set_result(true)
    t.equal(task:await(), true)
  end
  t.equal(woken, 0)
  for _, future in ipairs(pending) do future:set_result() end
  all:await(DEADLINE)
  t.equal(woken, 20000)
end

tests["async results and invokes are futures, which tasks await and cancel"] = function()
  local pool <close> = fz.pool(2)
  local stage = fz.stage "s"
  function stage.A(a) return a + 1 end
  local chain <close> = fz.chain { stage }
  local function checked(f)
    return fz.spawn(f):await(DEADLINE)
  end
  t.equal(checked(function() return pool:apply_async(function() return 1 end):get() end), 1)
  t.equal(checked(function()
    local r = pool:apply_async(function() return 1 end)
    while not r:ready() do fz.sleep(0.001) end
    return r:successful() and r:wait()
  end), true)
  t.equal(checked(function() return fz.await(chain:invoke_async { a = 1 }).A end), 2)
  local slow = pool:map_async(function() fz.sleep(1000) end, { 1, 2 })
  fz.sleep(0.01)
  t.equal(slow:cancel(), true)
  t.fails("cancelled", slow.get, slow)
  t.equal(pool:apply(function() return "usable" end), "usable")
end

-- The lines of the log of a script.
local function logged(script)
  local out, err = t.command("-e", script)
  local lines = {}
  for line in err:gmatch "[^\n]*was not awaited[^\n]*" do
    lines[#lines + 1] = line:match ": (.*)"
  end
  return lines, out, err
end

tests["an error that was not awaited is logged once"] = function()
  t.equal(#logged [[fz.spawn(error, "of a task", 0)]], 1)
  t.match(logged([[fz.spawn(error, "of a task", 0)]])[1], "of a task")
  local lines, out = logged [[
    do
      local task = fz.spawn(error, "collected", 0)
      fz.sleep(0.001)
    end
    collectgarbage() collectgarbage()
    print "before the end"
    fz.spawn(error, "at the end", 0)
    fz.future():set_error "of a future"
  ]]
  t.equal({ #lines, out }, { 3, "before the end\n" })
  t.equal(#logged [[pool = fz.pool(1) pool:apply_async(error, {"in a worker", 0}) pool:close()]], 1)
end

tests["an error is logged when its task is collected, also if no other task runs"] = function()
  local _, _, err = logged [[
    fz.spawn(error, "collected", 0)
    fz.sleep(0.001)
    collectgarbage() collectgarbage()
    io.stderr:write "before the end\n"
  ]]
  assert(err:find "was not awaited: collected\n.*before the end\n$", err)
end

tests["an error that was awaited, or handled, is not logged"] = function()
  local _, _, err = logged [[
    pcall(fz.await, fz.spawn(error, "awaited", 0))
    pcall(fz.gather, fz.spawn(error, "gathered", 0), fz.spawn(fz.sleep, 1000))
    pcall(fz.group, function(g) g:spawn(error, "of a group", 0) end)
    for future in fz.as_completed { fz.spawn(error, "completed", 0) } do pcall(fz.await, future) end
    fz.spawn(fz.sleep, 1000):cancel()
    local pool <close> = fz.pool(1)
    pool:apply_async(error, {"for a callback", 0}, {error_callback = function() end})
  ]]
  t.equal(err, "")
end

tests["a wrong argument names the call"] = function()
  for _, case in ipairs {
    { "fz.spawn", function() fz.spawn(1) end },
    { "fz.await", function() fz.await(1) end },
    { "fz.await", function() fz.await { 1 } end },
    { "fz.gather", function() fz.gather(fz.future(), {}) end },
    { "fz.as_completed", function() fz.as_completed { fz.future(), false } end },
    { "fz.sleep", function() fz.sleep(-1) end },
    { "fz.sleep", function() fz.sleep() end },
    { "fz.with_timeout", function() fz.with_timeout("x", print) end },
    { "fz.with_timeout", function() fz.with_timeout(1) end },
    { "future:await", function() fz.future():await "x" end },
  } do
    t.match(t.wrong(case[2]), case[1])
  end
end

tests["only the script's own futures can be settled by it"] = function()
  local pool <close> = fz.pool(1)
  local g <close> = fz.dag()
  g:add("a", {}, function() return 1 end)
  for _, start in ipairs {
    function() return fz.spawn(function() return 1 end) end,
    function() return pool:apply_async(function() return 1 end) end,
    function() return g:invoke_async {} end,
  } do
    local future = start()
    t.match(t.fails("error", future.set_result, future, 2), "sets the result of this future")
    t.match(t.fails("error", future.set_error, future, "x"), "sets the result of this future")
    local value = future:await(30)
    t.equal(type(value) == "table" and value.a or value, 1)
    t.match(t.fails("error", future.set_result, future, 2), "already has a result")
  end
end

return tests
