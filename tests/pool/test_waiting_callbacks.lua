-- Progress and retry_if functions that wait, while more results of the same work arrive.

local t = ...
local core = require "fzlua.core"
local recorded = assert(loadfile "tests/support/recorded.lua")(t)
local tests = {}

local N <const> = 12

-- A chain of two stages for each element.
local function chain_of(f)
  local a, b = fz.stage "a", fz.stage "b"
  a:register("x", "k", f)
  b:register("y", "x", function(x) return x end)
  return a >> b
end

-- A dag with three rows of functions that need each other.
local function dag_of(f)
  local g = fz.dag()
  for i = 1, N do g:add("a" .. i, i > 3 and { "a" .. i - 3 } or {}, function() return f(i) end) end
  return g
end

local function results_of(output)
  local list = { n = N }
  for i = 1, N do list[i] = output["a" .. i] end
  return list
end

-- Work with numbers from 1 to N: name -> f(function, options) -> list of results with n.
local KINDS <const> = {
  dag = function(f, options)
    local g <close> = dag_of(f)
    return results_of(g:invoke({}, options).output)
  end,
  async = function(f, options)
    local g <close> = dag_of(f)
    local future = g:invoke_async({}, options)
    fz.sleep(0.01)
    return results_of(future:await())
  end,
  dag_map = function(f, options)
    local g <close> = fz.dag()
    g:map("m", "list", f)
    return g:invoke({ list = t.numbers(N) }, options).output.m
  end,
  stream = function(f, options)
    local chain <close> = chain_of(f)
    local list = { n = 0 }
    for i, output in chain:stream(t.numbers(N), options) do
      list[i], list.n = output.y, list.n + 1
    end
    return list
  end,
  map = function(f, options) return fz.map(f, t.numbers(N), options) end,
  map_async = function(f, options)
    local pool <close> = fz.pool(4)
    options.jobs = nil
    return pool:map_async(f, t.numbers(N), options):get()
  end,
  imap = function(f, options)
    local pool <close> = fz.pool(4)
    options.jobs = nil
    local list = { n = 0 }
    for i, v in pool:imap(f, t.counter(N), options) do list[i], list.n = v, list.n + 1 end
    return list
  end,
}

local function wanted()
  local list = t.numbers(N)
  list.n = N
  return list
end

-- A function that fails at its first call with a number.
local function failing()
  local marks = {}
  for i = 1, N do marks[i] = recorded.new_path() end
  return function(i)
    local mark <close> = io.open(marks[i])
    if mark then return i end
    assert(io.open(marks[i], "w")):close()
    error("the first time", 0)
  end
end

local function same(i)
  fz.sleep(0.001)
  return i
end

tests["a progress function that waits holds nothing up"] = function()
  for name, work in pairs(KINDS) do
    local ncalls = 0
    local list = work(same, { jobs = 4, progress = function(done, _, e)
      if e.kind == "done" then ncalls = done end
      fz.sleep(0.002)
    end })
    t.equal({ name, list, ncalls }, { name, wanted(), N })
  end
end

tests["a retry_if function that waits holds nothing up, nor does one beside progress"] = function()
  for name, work in pairs(KINDS) do
    for _, progress in ipairs { false, function() fz.sleep(0.002) end } do
      local asked = 0
      local options = { jobs = 4, retries = 2, progress = progress }
      function options.retry_if()
        asked = asked + 1
        fz.sleep(0.001)
        return true
      end
      local list = work(failing(), options)
      t.equal({ name, list, asked }, { name, wanted(), N })
    end
  end
end

tests["a result is recorded before its end is reported, also if that waits"] = function()
  for name, work in pairs(KINDS) do
    for _, pause in ipairs { 0, 0.003 } do
      local store, reported, fewest = recorded.new_path(), 0, math.huge
      local list = work(same, { jobs = 4, resume = store, progress = function(_, _, e)
        if e.kind ~= "done" then return end
        reported = reported + 1
        local db <close> = core.database(store, 5, "read")
        fewest = math.min(fewest, db:run "SELECT count(*) FROM calls"[1][1] - reported)
        if pause > 0 then fz.sleep(pause) end
      end })
      t.equal({ name, pause, list }, { name, pause, wanted() })
      assert(fewest >= 0, ("%s: %d reported calls were not recorded"):format(name, -fewest))
      assert(reported >= N)
    end
  end
end

tests["a task gets the result of work whose callback waits in another"] = function()
  local g <close> = fz.dag()
  g:add("a", {}, function() return 7 end)
  local future
  future = g:invoke_async({}, { progress = function(_, _, e)
    if e.kind == "done" then fz.sleep(0.01) end
  end })
  local tasks = {}
  for i = 1, 3 do tasks[i] = fz.spawn(function() return future:await().a end) end
  t.equal({ fz.gather(table.unpack(tasks)) }, { 7, 7, 7 })
  t.equal(future:await().a, 7)
  local pool <close> = fz.pool(2)
  local result = pool:map_async(same, t.numbers(N), { progress = function() fz.sleep(0.002) end })
  for i = 1, 3 do tasks[i] = fz.spawn(function() return #result:get() end) end
  t.equal({ fz.gather(table.unpack(tasks)) }, { N, N, N })
end

tests["tasks share a loop whose progress function waits"] = function()
  local pool <close> = fz.pool(2)
  local following = pool:imap(same, t.counter(N), { progress = function() fz.sleep(0.001) end })
  local seen = {}
  fz.group(function(g)
    for _ = 1, 3 do
      g:spawn(function()
        for i, v in following do seen[i] = v end
      end)
    end
  end)
  t.equal(seen, t.numbers(N))
end

return tests
