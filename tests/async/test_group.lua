-- test_group.lua - groups of tasks, which end together.

local t = ...
local fz = require "fzlua"

local tests = {}

tests["a group returns when all its tasks are done"] = function()
  local sum = 0
  local function add(n)
    fz.sleep(n / 1000)
    sum = sum + n
    return n
  end
  local future
  local result = fz.group(function(g)
    for i = 1, 5 do future = g:spawn(add, i) end
    g:spawn(function() g:spawn(add, 10) end)
    return "of the function"
  end)
  t.equal({ sum, future:await(), result }, { 25, 5, "of the function" })
end

tests["an error in one cancels the others, and is raised"] = function()
  local closed = {}
  local function sleeper(name)
    local _ <close> = setmetatable({}, { __close = function() closed[#closed + 1] = name end })
    fz.sleep(1000)
  end
  local ok, e = pcall(fz.group, function(g)
    g:spawn(sleeper, "first")
    g:spawn(sleeper, "second")
    g:spawn(function()
      fz.sleep(0.01)
      error("of the third", 0)
    end)
    sleeper "the function"
  end)
  t.equal({ ok, e }, { false, "of the third" })
  t.equal(closed, { "the function", "first", "second" })
end

tests["an error of the function cancels the tasks"] = function()
  local task
  local ok, e = pcall(fz.group, function(g)
    task = g:spawn(fz.sleep, 1000)
    error("own", 0)
  end)
  t.equal({ ok, e }, { false, "own" })
  t.fails("cancelled", fz.await, task)
end

tests["a task of a group that was cancelled alone does not fail the group"] = function()
  local ended = false
  fz.group(function(g)
    local one = g:spawn(fz.sleep, 1000)
    g:spawn(function()
      fz.sleep(0.01)
      ended = true
    end)
    one:cancel()
  end)
  t.equal(ended, true)
end

tests["a cancelled task cancels its group"] = function()
  local closed = false
  local task = fz.spawn(fz.group, function(g)
    g:spawn(function()
      local _ <close> = setmetatable({}, { __close = function() closed = true end })
      fz.sleep(1000)
    end)
  end)
  fz.sleep(0.005)
  task:cancel()
  t.equal(closed, true)
end

tests["a group in a group, and a lock of the caller"] = function()
  local lock, order = fz.rlock(), {}
  lock:with(function()
    fz.group(function(outer)
      lock:with(function() order[#order + 1] = "own lock" end)
      outer:spawn(function()
        fz.group(function(inner)
          inner:spawn(function() order[#order + 1] = "inner" end)
        end)
        order[#order + 1] = "outer"
      end)
    end)
  end)
  t.equal(order, { "own lock", "inner", "outer" })
end

tests["a group that has ended takes no tasks"] = function()
  local kept
  fz.group(function(g) kept = g end)
  t.fails("closed", kept.spawn, kept, print)
  t.match(t.wrong(function() kept.spawn(print) end), "call it with a colon")
  t.match(t.wrong(function() fz.group(1) end), "fz.group", "function expected")
end

tests["pools, chains and programs are awaited together with tasks"] = function()
  local pool <close> = fz.pool(2)
  local stage = fz.stage "s"
  function stage.A(a) return a + 1 end
  local chain <close> = fz.chain { stage }
  local a, b, c, d = fz.gather(
    fz.spawn(function() return 1 end),
    pool:apply_async(function() return 2 end),
    chain:invoke_async { a = 2 },
    fz.spawn(function() return fz.exec({ "echo", "4" }).stdout end))
  t.equal({ a, b, c.A, d }, { 1, 2, 3, "4\n" })
  local e = t.fails("error", fz.gather, pool:apply_async(function() error "in a worker" end),
    fz.spawn(fz.sleep, 1000))
  t.match(e.message, "in a worker")
  local slow = pool:apply_async(function() fz.sleep(1000) end)
  t.equal({ fz.await({ slow }, 0.01) }, { nil, "timeout" })
  t.equal(slow:cancel(), true)
end

return tests
