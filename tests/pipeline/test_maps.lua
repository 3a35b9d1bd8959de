-- test_maps.lua - stage:map and dag:map: lists, further inputs, retries, workers, pictures.

local t = ...
local fz = require "fzlua"

local tests = {}

local JOBS <const> = { 0, 1, 2, 4 }

-- A chain of one map from `list` to `out`; extra inputs follow.
local function chain_of(f, options, ...)
  local stage = fz.stage "each"
  stage:map("out", { "list", ... }, f, options)
  return fz.chain { stage }
end

local function numbers(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

local function kill_me() os.execute("kill -9 " .. fz.current_process().pid) end

tests["the output is the list of the results, with n"] = function()
  for _, jobs in ipairs(JOBS) do
    local chain <close> = chain_of(function(x) return x * x end)
    for _, n in ipairs { 0, 1, 3, 1500 } do
      local out = chain({ list = numbers(n) }, { jobs = jobs }).out
      t.equal(out.n, n)
      t.equal(#out, n)
      for i = 1, n do t.equal(out[i], i * i) end
    end
  end
end

tests["results of every kind arrive as the function returned them"] = function()
  local shared = { 1 }
  local values = {
    false, true, 1, -1, 127, 128, 2 ^ 53, 0.5, math.mininteger, "", ("x"):rep(63), ("y"):rep(5000),
    { name = "a", again = "a", more = { "a", "a" } }, { shared, shared },
  }
  local function f(i) return values[i] end
  for _, jobs in ipairs(JOBS) do
    local chain <close> = chain_of(f)
    local out = chain({ list = numbers(#values + 1) }, { jobs = jobs }).out
    t.equal(out.n, #values + 1)
    for i, value in ipairs(values) do t.equal(out[i], value) end
    t.equal(out[#values + 1], nil)
    assert(out[14][1] == out[14][2], "an element keeps its shared references")
  end
end

tests["numbers in long lists keep their values and types"] = function()
  local function f(x)
    if x % 500 == 0 then return nil end
    if x % 3 == 0 then return x * 1000003 end
    if x % 7 == 0 then return x / 2 end
    return x % 2 == 0
  end
  for _, jobs in ipairs(JOBS) do
    local chain <close> = chain_of(f)
    local out = chain({ list = numbers(5000) }, { jobs = jobs }).out
    for i = 1, 5000 do
      local expected = f(i)
      t.equal(out[i], expected)
      t.equal(math.type(out[i]), math.type(expected))
    end
  end
end

tests["elements of every kind arrive, holes are nil, and n counts"] = function()
  local point = { x = 1 }
  local list = { "a", nil, { point, point }, 2.5, [6] = true, n = 8 }
  local function f(v) return type(v) == "table" and (v[1] == v[2] and "shared") or tostring(v) end
  for _, jobs in ipairs(JOBS) do
    local chain <close> = chain_of(f)
    local out = chain({ list = list }, { jobs = jobs }).out
    t.equal(out.n, 8)
    t.equal({ table.unpack(out, 1, 8) },
      { "a", "nil", "shared", "2.5", "nil", "true", "nil", "nil" })
  end
end

tests["a list that is longer than workers get whole is mapped, too"] = function()
  local text = ("0123456789"):rep(1000)
  local list = {}
  for i = 1, 600 do list[i] = text .. i end
  local chain <close> = chain_of(function(s) return #s end)
  local out = chain({ list = list }, { jobs = 2 }).out
  for i = 1, 600 do t.equal(out[i], #list[i]) end
end

tests["further inputs are passed to each call, nil among them"] = function()
  local function f(x, unit, missing, scale) return x * scale.by .. unit .. tostring(missing) end
  for _, jobs in ipairs(JOBS) do
    local first, second = fz.stage "first", fz.stage "second"
    first:register("missing", { "list" }, function() return nil end)
    second:map("out", { "list", "unit", "missing", "scale" }, f)
    local chain <close> = first >> second
    local out = chain({ list = { 1, 2, 3 }, unit = "kB", scale = { by = 10 } }, { jobs = jobs }).out
    t.equal(table.concat(out, " "), "10kBnil 20kBnil 30kBnil")
  end
end

tests["a further input is decoded once in each worker"] = function()
  local Big = { __name = "Big" }
  Big.__index = Big
  function Big:__fzpack() return { self.n } end
  function Big.__fzunpack(plain)
    Big.count = (Big.count or 0) + 1
    return setmetatable({ n = plain[1] }, Big)
  end
  fz.register_class("TestMapsBig", Big)
  local chain <close> = chain_of(function(_, big)
    return fz.current_process().pid .. " " .. Big.count .. " " .. big.n
  end, nil, "big")
  local out = chain({ list = numbers(2000), big = setmetatable({ n = 5 }, Big) }, { jobs = 2 }).out
  local seen = {}
  for i = 1, 2000 do
    local pid, count, n = out[i]:match "(%d+) (%d+) (%d+)"
    t.equal(n, "5")
    t.equal(count, seen[pid] or count)
    seen[pid] = count
  end
end

tests["a map reads the list of a map, and another stage the list of both"] = function()
  for _, jobs in ipairs(JOBS) do
    local a, b, c = fz.stage "a", fz.stage "b", fz.stage "c"
    a:map("rows", "list", function(x) return { id = x, tag = "tag", twice = { x, x } } end)
    b:map("ids", "rows", function(row) return row.id + row.twice[2] end)
    c:register("total", { "ids", "rows" }, function(ids, rows)
      local sum = 0
      for i = 1, ids.n do sum = sum + ids[i] end
      return sum .. " " .. rows.n .. rows[1].tag
    end)
    local chain <close> = a >> b >> c
    t.equal(chain({ list = numbers(300) }, { jobs = jobs }).total, "90300 300tag")
  end
end

tests["nested lists: each element may be a list, and a map in a map's result"] = function()
  local dag <close> = fz.dag()
  dag:map("sums", "rows", function(row)
    local sum = 0
    for _, v in ipairs(row) do sum = sum + v end
    return { sum, row }
  end)
  dag:map("back", "sums", function(pair) return pair[2] end)
  local out = dag({ rows = { { 1, 2 }, {}, { 3, 4 } } })
  t.equal({ out.sums[1][1], out.sums[2][1], out.sums[3][1] }, { 3, 0, 7 })
  t.equal(out.back[3], { 3, 4 })
end

tests["without inputs the list has the name of the output"] = function()
  local stage = fz.stage "upper"
  stage:map("names", string.upper)
  local chain <close> = fz.chain { stage }
  t.equal({ table.unpack(chain { names = { "a", "b" } }.names) }, { "A", "B" })
end

tests["an input that is no list is an error that names it"] = function()
  for _, jobs in ipairs { 0, 2 } do
    for _, value in ipairs { "text", 5, { x = 1 }, print } do
      local chain <close> = chain_of(function(x) return x end)
      local e = t.fails("error", chain.invoke, chain, { list = value }, { jobs = jobs })
      t.equal(e.stage, "each")
      t.equal(e.output, "out")
      t.equal(e.input, "list")
      t.match(tostring(e), "stage each: output out: input list: a list expected, got a")
    end
  end
end

tests["stage:invoke runs a map in this process"] = function()
  local stage = fz.stage "here"
  stage:map("out", { "list", "unit" }, function(x, unit, extra) return x and x .. unit .. extra end)
  stage.input = { list = { 1, nil, 3, n = 4 }, unit = "kB" }
  local out = stage("out", "!")
  t.equal(out.n, 4)
  t.equal({ table.unpack(out, 1, 4) }, { "1kB!", nil, "3kB!", nil })
  t.equal(stage.output.out, out)
  stage.input = { list = "no list", unit = "" }
  local e = t.fails("error", stage, "out", "")
  t.equal(e.input, "list")
  t.match(tostring(e), "stage here: output out: input list: a list expected, got a string")
end

tests["wrong arguments are errors at the caller's line"] = function()
  local stage, dag = fz.stage "s", fz.dag()
  for _, call in ipairs {
    function() stage:map({ "a", "b" }, "list", print) end,
    function() stage:map("a", {}, print) end,
    function() stage:map("a", "list") end,
    function() stage:map("a", "list", print, { no_such = 1 }) end,
    function() dag:map("a", print) end,
    function() function stage.map() end end,
  } do
    t.wrong(call)
  end
end

tests["an error of an element has stage, output and index"] = function()
  local function f(x)
    if x == 7 then error { code = 7 } end
    return x
  end
  for _, jobs in ipairs(JOBS) do
    local chain <close> = chain_of(f)
    local e = t.fails("error", chain.invoke, chain, { list = numbers(20) }, { jobs = jobs })
    t.equal(e.stage, "each")
    t.equal(e.output, "out")
    t.equal(e.index, 7)
    t.equal(e.cause.code, 7)
    t.equal(chain.errors.out.index, 7)
  end
end

tests["a result that cannot be sent is an error of its element"] = function()
  for _, jobs in ipairs { 0, 2 } do
    local chain <close> = chain_of(function(x) return x == 3 and { f = io.tmpfile() } or x end)
    local e = t.fails("unsendable", chain.invoke, chain, { list = numbers(5) }, { jobs = jobs })
    t.equal(e.index, 3)
    t.match(tostring(e), "output out: .f: a FILE*")
  end
end

tests["an element that cannot be sent is an error of the input"] = function()
  local chain <close> = chain_of(function(x) return x end)
  local list = { 1, coroutine.create(print) }
  local e = t.fails("unsendable", chain.invoke, chain, { list = list }, { jobs = 2 })
  t.equal(e.input, "list")
  t.match(tostring(e), "input list: [2]: a coroutine")
end

tests["continue: the other elements are called, users of the output are not"] = function()
  for _, jobs in ipairs(JOBS) do
    local stage, after = fz.stage "each", fz.stage "after"
    stage:map("out", "list", function(x)
      if x % 4 == 0 then error("no " .. x, 0) end
      return x
    end)
    after:register("sum", { "out" }, function() return 1 end)
    local chain <close> = stage >> after
    chain:invoke({ list = numbers(10) }, { jobs = jobs, on_error = "continue" })
    local e = chain.errors.out
    t.equal(e.stage, "each")
    assert(e.index == 4 or e.index == 8)
    t.equal(#e.others, 1)
    t.equal(e.index + e.others[1].index, 12)
    t.equal(chain.errors.sum.kind, "cancelled")
    t.equal(chain.output.sum, nil)
    local out = chain.output.out
    t.equal(out.n, 10)
    t.equal({ table.unpack(out, 1, 10) }, { 1, 2, 3, nil, 5, 6, 7, nil, 9, 10 })
    t.match(out.errors[4].message, "no 4")
    t.match(out.errors[8].message, "no 8")
  end
end

tests["stop: what runs ends, nothing new is called; now: what runs is ended"] = function()
  for _, policy in ipairs { "stop", "now" } do
    local calls = fz.value("i", 0)
    local chain <close> = chain_of(function(x)
      calls:add(1)
      if x == 1 then error "first" end
      fz.sleep(policy == "now" and 100 or 0.01)
      return x
    end)
    local e = t.fails("error", chain.invoke, chain, { list = numbers(500) },
      { jobs = 2, on_error = policy })
    t.equal(e.index, 1)
    assert(calls.value < 500)
  end
end

tests["an error elsewhere stops a map, and that error is raised"] = function()
  local stage = fz.stage "both"
  stage:map("out", "list", function() fz.sleep(0.01) end)
  stage:register("bad", { "list" }, function() error "elsewhere" end)
  local chain <close> = fz.chain { stage }
  local e = t.fails("error", chain.invoke, chain, { list = numbers(20000) }, { jobs = 2 })
  t.equal(e.output, "bad")
  t.equal(chain.errors.out.kind, "cancelled")
end

tests["each element has its own retries"] = function()
  for _, jobs in ipairs(JOBS) do
    local tries = fz.array("i", 20)
    local chain <close> = chain_of(function(x)
      tries[x] = tries[x] + 1
      if x % 5 == 0 and tries[x] < 3 then error "again" end
      return x
    end, { retries = 2 })
    local out = chain({ list = numbers(20) }, { jobs = jobs }).out
    for i = 1, 20 do
      t.equal(out[i], i)
      t.equal(tries[i], i % 5 == 0 and 3 or 1)
    end
  end
end

tests["retry_if decides about each element, in invokes and streams"] = function()
  for _, jobs in ipairs { 0, 2 } do
    local asked = {}
    local function retry_if(e)
      asked[#asked + 1] = (e.element or e.index) .. ":" .. e.output
      return e.message:match "again" ~= nil
    end
    local tries = fz.array("i", 3)
    local chain <close> = chain_of(function(x)
      tries[x] = tries[x] + 1
      if x == 2 and tries[x] == 1 then error "again" end
      return x
    end, { retries = 3, retry_if = retry_if })
    t.equal(chain({ list = { 1, 2, 3 } }, { jobs = jobs }).out[2], 2)
    t.equal(asked, { "2:out" })
    tries[2] = 0
    for _, out in chain:stream({ { list = { 1, 2, 3 } } }, { jobs = jobs }) do
      t.equal(out.out[2], 2)
    end
    t.equal(asked, { "2:out", "2:out" })
  end
end

tests["only the element of a killed worker is called again"] = function()
  local tries = fz.array("i", 200)
  local chain <close> = chain_of(function(x, base)
    tries[x] = tries[x] + 1
    if x % 50 == 0 and tries[x] == 1 then kill_me() end
    return x + base
  end, { retries = 1 }, "base")
  local out = chain({ list = numbers(200), base = 1000 }, { jobs = 2 }).out
  for i = 1, 200 do
    t.equal(out[i], i + 1000)
    if t.exact then t.equal(tries[i], i % 50 == 0 and 2 or 1) end
  end
end

tests["a killed worker without retries is the error of its element"] = function()
  local chain <close> = chain_of(function(x)
    if x == 3 then kill_me() end
    return x
  end)
  local e = t.fails("crash", chain.invoke, chain, { list = numbers(9) }, { jobs = 2 })
  t.equal(e.index, 3)
  t.equal(e.signal, 9)
end

tests["timeout and memory are those of one call"] = function()
  local chain <close> = chain_of(function(x) if x == 2 then fz.sleep(60) end end, { timeout = 2 })
  local e = t.fails("timeout", chain.invoke, chain, { list = numbers(3) }, { jobs = 2 })
  t.equal(e.index, 2)
  local greedy <close> = chain_of(function(x)
    local text = "x" -- Lua 5.4.0 raises a plain error if string.rep has no memory
    while x == 2 and #text < 64 << 20 do text = text .. text end
    return x
  end, { memory = "16M" })
  e = t.fails("memory", greedy.invoke, greedy, { list = numbers(3) }, { jobs = 2 })
  t.equal(e.index, 2)
end

tests["the deadline ends the elements that run"] = function()
  local chain <close> = chain_of(function() fz.sleep(60) end)
  t.fails("timeout", chain.invoke, chain, { list = numbers(5) }, { jobs = 2, deadline = 0.2 })
end

tests["random numbers depend on the node and the element, not on jobs"] = function()
  local expected
  for _, jobs in ipairs(JOBS) do
    local stage = fz.stage "random"
    stage:map("a", "list", function() return math.random(1 << 40) end)
    stage:map("b", "list", function() return math.random(1 << 40) end)
    local chain <close> = fz.chain { stage }
    local out = chain({ list = numbers(50) }, { jobs = jobs, seed = 11 })
    local text = table.concat(out.a, " ") .. "|" .. table.concat(out.b, " ")
    expected = expected or text
    t.equal(text, expected)
    assert(out.a[1] ~= out.b[1] and out.a[1] ~= out.a[2])
  end
end

tests["outputs, keep and registering again"] = function()
  local calls = fz.value("i", 0)
  local stage, after = fz.stage "each", fz.stage "after"
  stage:map("a", "list", function(x) return x + 1 end)
  stage:map("b", "list", function(x)
    calls:add(1)
    return x
  end)
  after:map("c", "a", function(x) return -x end)
  local chain <close> = stage >> after
  t.equal({ table.unpack(chain({ list = { 1, 2 } }, { outputs = { "c" } }).c) }, { -2, -3 })
  t.equal(calls.value, 0)
  chain:invoke({ list = { 1, 2 } }, { keep = "all" })
  t.equal({ table.unpack(chain:at(1).a) }, { 2, 3 })
  t.equal({ table.unpack(chain:at(2).c) }, { -2, -3 })
  stage:map("a", "list", function(x) return x * 10 end)
  t.equal({ table.unpack(chain { list = { 1, 2 } }.c) }, { -10, -20 })
  stage:register("a", { "list" }, function(list) return { #list } end)
  t.equal({ table.unpack(chain { list = { 1, 2 } }.c) }, { -2 })
end

tests["invoke_async in tasks, cancel and close"] = function()
  local chain <close> = chain_of(function(x, pause)
    fz.sleep(pause)
    return x
  end, nil, "pause")
  local one = fz.spawn(function()
    return fz.await(chain:invoke_async({ list = { 1, 2 }, pause = 0 }, { jobs = 2 }))
  end)
  t.equal(fz.await(one).out[2], 2)
  local future = chain:invoke_async({ list = numbers(100), pause = 60 }, { jobs = 2 })
  fz.sleep(0.05)
  future:cancel()
  t.equal(select(2, pcall(fz.await, future)).kind, "cancelled")
  future = chain:invoke_async({ list = numbers(100), pause = 60 }, { jobs = 2 })
  chain:close()
  t.equal(select(2, pcall(fz.await, future)).kind, "cancelled")
  t.equal(chain({ list = { 1, 2 }, pause = 0 }, { jobs = 2 }).out.n, 2)
end

tests["Ctrl-C ends the elements that run"] = function()
  local _, err, status = t.interrupt([[
    local fz = require "fzlua"
    local stage = fz.stage "each"
    stage:map("out", "list", function() fz.sleep(60) end)
    ready()
    fz.chain { stage }:invoke({ list = { 1, 2, 3 } }, { jobs = 2 })
  ]])
  t.equal(status, 130)
  t.match(err, "interrupted")
end

tests["a function of a map may close its chain"] = function()
  local chain
  chain = chain_of(function(x)
    if x == 2 then chain:close() end
    return x
  end)
  t.fails("cancelled", chain.invoke, chain, { list = numbers(3) }, { jobs = 0 })
end

tests["streams: the map of each item, in order, with its errors"] = function()
  local items = {}
  for i = 1, 60 do items[i] = { list = numbers(i % 7 + 2), base = i } end
  for _, jobs in ipairs { 0, 2, 4 } do
    local stage, after = fz.stage "each", fz.stage "after"
    stage:map("out", { "list", "base" }, function(x, base)
      if base % 20 == 3 and x == 2 then error "third" end
      return base * 10 + x
    end)
    after:register("n", { "out" }, function(out) return out.n end)
    local chain <close> = stage >> after
    local count = 0
    for i, out, e in chain:stream(items, { jobs = jobs, on_error = "continue" }) do
      count = count + 1
      t.equal(i, count)
      if i % 20 == 3 then
        t.equal(e.index, i)
        t.equal(e.element, 2)
        t.match(tostring(e), "element 2")
      else
        t.equal(out.n, i % 7 + 2)
        for k = 1, out.n do t.equal(out.out[k], i * 10 + k) end
      end
    end
    t.equal(count, 60)
  end
end

tests["streams: a failed element ends the loop; leaving the loop ends the maps"] = function()
  local dag <close> = fz.dag()
  dag:map("out", "list", function(x)
    if x == 3 then error "three" end
    return x
  end)
  local e = t.fails("error", function()
    for _ in dag:stream({ { list = { 1 } }, { list = { 1, 2, 3 } } }, { jobs = 2 }) do end
  end)
  t.equal(e.index, 2)
  t.equal(e.element, 3)
  local slow <close> = chain_of(function(x) if x > 1 then fz.sleep(60) end end)
  local seen = 0
  for i in slow:stream({ { list = { 1 } }, { list = numbers(9) } }, { jobs = 2 }) do
    seen = i
    if seen == 1 then break end
  end
  t.equal(seen, 1)
end

tests["progress: elements count once the list is known, and have an index"] = function()
  for _, jobs in ipairs { 0, 2 } do
    local stage = fz.stage "each"
    stage:map("out", "list", function(x) return x end)
    stage:map("none", "empty", function(x) return x end)
    stage:register("sum", { "list" }, function() return 1 end)
    local chain <close> = fz.chain { stage }
    local last, seen = nil, {}
    local function progress(done, total, event)
      last = { done, total }
      if event.output == "out" and event.kind == "done" then seen[event.index] = event.stage end
    end
    chain:invoke({ list = numbers(30), empty = {} }, { jobs = jobs, progress = progress })
    t.equal(last, { 32, 32 })
    for i = 1, 30 do t.equal(seen[i], "each") end
  end
end

tests["progress ends with done == total also if a map fails"] = function()
  local chain <close> = chain_of(function(x)
    if x == 3 then error "three" end
    return x
  end)
  for _, policy in ipairs { "stop", "continue" } do
    local done, total
    pcall(chain.invoke, chain, { list = numbers(40) },
      { on_error = policy, progress = function(...) done, total = ... end })
    t.equal(done, total)
    t.equal(total, 40)
  end
end

tests["a map takes the workers that jobs allows, one stage beside another"] = function()
  local chain <close> = chain_of(function()
    fz.sleep(0.02)
    return fz.current_process().pid
  end)
  local pids, n = {}, 0
  for _, pid in ipairs(chain({ list = numbers(12) }, { jobs = 3 }).out) do
    if not pids[pid] then n = n + 1 end
    pids[pid] = true
  end
  assert(n > 1 and n <= 3)
end

tests["optional: a function runs without a map that has failed"] = function()
  local stage, after = fz.stage "each", fz.stage "after"
  stage:map("out", "list", function() error "no" end)
  after:register("sum", { "out" }, function(out) return out == nil end, { optional = true })
  local chain <close> = stage >> after
  chain:invoke({ list = { 1, 2 } }, { on_error = "continue" })
  t.equal(chain.output.sum, true)
end

tests["pictures show a map as a stack; tables keep their form"] = function()
  local stage = fz.stage "scan"
  stage:map("sizes", { "files", "unit" }, function() end)
  stage:register("n", { "files" }, function() end)
  local chain = fz.chain { stage }
  t.match(chain:to_mermaid(), 'f1@{ shape: procs, label: "function sizes" }')
  t.match(chain:to_mermaid(), 'f2("function n")')
  t.match(chain:to_dot(), 'f1 [label="function sizes", shape=box3d];')
  t.equal(tostring(chain:as_table()), table.concat({
    "stage_id  stage_name  output  prev_stage_id  inputs  func",
    "       0  scan        sizes              -1  files   function sizes",
    "       0  scan        sizes              -1  unit    function sizes",
    "       0  scan        n                  -1  files   function n",
  }, "\n"))
  t.equal(#chain.edge_table, 5)
end

tests["many maps leave nothing in workers and in the parent"] = function()
  local chain <close> = chain_of(function(x, extra) return x + #extra end, nil, "extra")
  local extra = ("x"):rep(200000)
  local function invoke(times)
    for _ = 1, times do
      t.equal(chain({ list = numbers(10), extra = extra }, { jobs = 2 }).out[10], 200010)
    end
    collectgarbage()
    collectgarbage()
    return collectgarbage "count"
  end
  local before = invoke(20)
  assert(invoke(200) < before + 4000)
end

tests["a manager's list as an input is copied, in an invoke and in a stream"] = function()
  local manager <close> = fz.manager()
  local list = manager:list { 1, 2, 3 }
  local chain <close> = chain_of(function(x) return 2 * x end)
  for jobs = 0, 1 do
    t.equal(chain({ list = list }, { jobs = jobs }).out, { 2, 4, 6, n = 3 })
    for _, out in chain:stream({ { list = list, other = 5 } }, { jobs = jobs }) do
      t.equal({ out.out, out.other, out.list:copy() }, { { 2, 4, 6, n = 3 }, 5, { 1, 2, 3 } })
    end
  end
  local make = fz.stage "make"
  make:register("list", "any", function() return list end)
  local e = t.fails("error", make:chain(chain.stages[1]).invoke, make:chain(chain.stages[1]),
    { any = 1 })
  t.match(e, "the elements of a manager's list are in its server: return list:copy()")
end

return tests
