-- The option trace: the records of an invoke or a stream, as a list and in a file.
local t = ...
local core = require "fzlua.core"
local json = require "fzlua.json"
local tests = {}

local function name_of(format)
  local path = os.tmpname()
  local name = ("%s.%s"):format(path, format)
  os.remove(path)
  t.files[#t.files + 1] = name
  return name
end

-- The records with these fields, in the order of time.
local function find(trace, wanted)
  local list = {}
  for _, e in ipairs(trace) do
    local fits = true
    for key, value in pairs(wanted) do fits = fits and e[key] == value end
    if fits then list[#list + 1] = e end
  end
  return list
end

local function chain_of_two()
  local load, clean = fz.stage "load", fz.stage "clean"
  function load.A(x) return x + 1 end
  function clean.B(A) return ("b"):rep(A) end
  return load >> clean
end

tests["an invoke has a record of each function, with its times and bytes"] = function()
  local chain <close> = chain_of_two()
  local before = os.time()
  chain:invoke({ x = 999 }, { trace = true })
  t.equal(#chain.trace, 2)
  local a, b = chain.trace[1], chain.trace[2]
  t.equal({ a.event, a.stage, a.name, a.n, a.attempt }, { "done", "load", "A", 1, 1 })
  t.equal({ b.event, b.stage, b.name, b.error }, { "done", "clean", "B", nil })
  assert(b.received >= 1000 and b.received < 1100 and a.sent > 0)
  assert(a.pid ~= (core.pid()))
  assert(before - 1 <= a.queued and a.queued <= a.started and a.started <= a.ended)
  assert(a.ended <= b.ended and b.queued >= a.queued)
  t.equal(chain.trace[3], nil)
  t.equal(tostring(chain.trace), "fzlua.Trace (2 events)")
end

tests["the name of a function is all its outputs"] = function()
  local dag <close> = fz.dag()
  dag:add({ "a", "b" }, {}, function() return 1, 2 end)
  t.equal(dag:invoke().output.b, 2)
  for _ = 1, 2 do
    dag:invoke({}, { trace = true })
    t.equal(dag.trace[1].name, "a,b")
  end
end

tests["trace = false records nothing, in an invoke as in a stream"] = function()
  local dag <close> = fz.dag()
  dag:add("a", {}, function() return 1 end)
  t.equal(dag:invoke({}, { trace = false, jobs = 0 }).output.a, 1)
  t.equal(dag.trace, nil)
  for _, output in dag:stream({ {} }, { trace = false, jobs = 0 }) do t.equal(output.a, 1) end
end

tests["without the option nothing is recorded, and prune drops the records"] = function()
  local chain <close> = chain_of_two()
  chain:invoke { x = 1 }
  t.equal(chain.trace, nil)
  chain:invoke({ x = 1 }, { trace = true })
  t.equal(#chain.trace, 2)
  chain:prune()
  t.equal(chain.trace, nil)
  chain:invoke({ x = 1 }, { trace = true })
  chain:invoke { x = 1 }
  t.equal(chain.trace, nil)
end

tests["options that are false are as if they were not given"] = function()
  local stage = fz.stage "S"
  stage:register("B", "A", function(a) return a + 1 end)
  local chain <close> = fz.chain(stage)
  for _, jobs in ipairs { 0, 1 } do
    for _, name in ipairs { "trace", "report", "progress", "cache", "resume" } do
      t.equal(chain:invoke({ A = 1 }, { [name] = false, jobs = jobs }).output, { A = 1, B = 2 })
      t.equal(chain.trace, nil)
    end
    for _, name in ipairs { "trace", "report", "progress" } do
      for _, output in chain:stream({ { A = 1 } }, { [name] = false, jobs = jobs }) do
        t.equal(output, { A = 1, B = 2 })
      end
    end
  end
end

tests["a map has records of its elements, which have their index and number"] = function()
  for jobs = 0, 2, 2 do
    local g <close> = fz.dag()
    g:map("M", "list", function(x) return x * 2 end)
    g:invoke({ list = t.numbers(5000) }, { trace = true, jobs = jobs })
    local seen, whole = {}, 0
    for _, e in ipairs(find(g.trace, { event = "done", name = "M" })) do
      if e.index then
        for i = e.index, e.index + e.n - 1 do seen[#seen + 1] = i end
      else
        whole = whole + 1
      end
    end
    table.sort(seen)
    t.equal(seen, t.numbers(5000))
    t.equal(whole, 1)
  end
end

tests["a stream has the item, and a retry is a record of its own"] = function()
  local s = fz.stage "s"
  s:register("y", { "x" }, function(x)
    if x == 2 then error "no" end
    return x
  end)
  local chain <close> = fz.chain { s }
  local options = { trace = true, retries = 2, on_error = "continue", jobs = 2 }
  for _ in chain:stream({ 1, 2, 3 }, options) do end -- luacheck: ignore
  local trace = chain.trace
  t.equal(#find(trace, { event = "done" }), 2)
  local failed = find(trace, { item = 2 })
  t.equal({ failed[1].event, failed[2].event, failed[3].event }, { "retry", "retry", "failed" })
  for i, e in ipairs(failed) do t.equal({ e.attempt, e.error }, { i, "error" }) end
end

tests["a timeout, a kill, an exit and a cancel are named"] = function()
  local g <close> = fz.dag()
  g:add("slow", {}, function() while true do end end, { timeout = 0.05 })
  g:add("killed", {}, function() os.execute "kill -9 $PPID" fz.sleep(60) end)
  g:add("left", {}, function() os.exit(7) end)
  g:add("after", { "left" }, function() end)
  g:invoke({}, { trace = true, on_error = "continue", jobs = 4 })
  local slow, killed = find(g.trace, { name = "slow" })[1], find(g.trace, { name = "killed" })[1]
  local left, after = find(g.trace, { name = "left" })[1], find(g.trace, { name = "after" })[1]
  t.equal({ slow.event, slow.error }, { "failed", "timeout" })
  assert(slow.ended - slow.started >= 0.05)
  t.equal({ killed.event, killed.error, killed.signal }, { "failed", "crash", 9 })
  assert(killed.peak > 100000 and slow.peak > 100000 and not after.peak)
  assert(slow.cpu > 0)
  t.match(killed.message, "killed by signal 9")
  t.equal({ left.event, left.error, left.exitcode }, { "failed", "crash", 7 })
  t.equal({ after.event, after.error, after.pid }, { "cancelled", "cancelled", nil })
end

for _, start in ipairs { "fork", "spawn" } do
  tests["the processor time and memory of living workers are known: " .. start] = function()
    local s = fz.stage { name = "s", start = start, workers = 1 }
    s:register("busy", { "x" }, function(x)
      local till = os.clock() + x
      while os.clock() < till do end
    end)
    s:register("idle", { "x" }, function(x) return x end)
    s:register("big", { "x" }, function() return #("x"):rep(64 << 20) end)
    s:map("all", "list", function(x)
      local till = os.clock() + x
      while os.clock() < till do end
    end)
    local chain <close> = fz.chain { s }
    chain:invoke({ x = 0.1, list = { 0.05, 0.05, 0.05, 0.05 } }, { trace = true })
    local sum, peak = {}, {}
    for _, e in ipairs(chain.trace) do
      sum[e.name] = (sum[e.name] or 0) + (e.cpu or 0)
      peak[e.name] = e.peak
    end
    assert(sum.busy >= 0.09, sum.busy)
    assert(sum.all >= 0.14, sum.all)
    assert(peak.big > 64 << 20, peak.big)
  end
end

tests["programs that a function runs count"] = function()
  local g <close> = fz.dag()
  g:add("a", {}, function()
    return fz.exec({ "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done" }).exitcode
  end)
  g:invoke({}, { trace = true })
  assert(g.trace[1].cpu > 0.01, g.trace[1].cpu)
end

-- Check that each call of a trace takes at least 0.1 ms, and that calls of a worker do not overlap.
local function assert_own_times(trace, count)
  local ended, calls = {}, 0
  for _, e in ipairs(trace) do
    if e.pid then
      calls = calls + e.n
      assert(e.ended - e.started >= 0.000099, e.ended - e.started)
      assert(e.started >= (ended[e.pid] or e.queued) - 1e-6 and e.queued <= e.started)
      ended[e.pid] = e.ended
    end
  end
  t.equal(calls, count)
end

local function be_busy(x)
  local till = fz.now() + 0.0001
  while fz.now() < till do end
  return x
end

tests["each call has its own times, if its worker answers many at once, too"] = function()
  local s = fz.stage { name = "s", workers = 1 }
  for i = 1, 100 do s:register("f" .. i, {}, be_busy) end
  local chain <close> = fz.chain { s }
  chain:invoke({}, { trace = true, jobs = 1 })
  assert_own_times(chain.trace, 100)
  local one = fz.stage { name = "one", workers = 1 }
  one:register("y", "x", be_busy)
  local items <close> = fz.chain { one }
  for _ in items:stream(t.numbers(200), { trace = true, jobs = 1 }) do end -- luacheck: ignore
  assert_own_times(items.trace, 200)
end

tests["the first call of a worker has what its start and its init took"] = function()
  for _, start in ipairs { "fork", "spawn" } do
    local function init() fz.sleep(0.02) end
    local s = fz.stage { name = "s", workers = 1, start = start, init = init }
    s:register("a", {}, function() return 1 end)
    s:register("b", {}, function() return 2 end)
    s:map("c", "list", function(x) return x end)
    local chain <close> = fz.chain { s }
    chain:invoke({ list = { 1, 2 } }, { trace = true, jobs = 1 })
    local ninit, nlaunch = 0, 0
    for i, e in ipairs(chain.trace) do
      ninit, nlaunch = ninit + (e.init and 1 or 0), nlaunch + (e.launch and 1 or 0)
      if e.init then
        assert(e.init >= 0.02 and e.init <= e.ended - e.started + 1e-6, e.init)
        assert(e.launch > 0, e.launch)
        t.equal(i, 1)
      end
    end
    t.equal({ ninit, nlaunch }, { 1, 1 })
  end
end

tests["the init of a map is in the record that its worker has measured"] = function()
  local script = t.file [[
local pool <close> = fz.pool { workers = 1, init = function() fz.sleep(0.02) end }
pool:map(function(x) return x end, { 1, 2, 3 })]]
  local path = t.file "" .. ".jsonl"
  t.files[#t.files + 1] = path
  local _, err, status = t.command("--trace", path, script)
  t.equal({ err, status }, { "", 0 })
  local _, ninit = t.read(path):gsub('"init":0%.[0-9]+', "")
  local _, nlaunch = t.read(path):gsub('"launch":0%.[0-9]+', "")
  t.equal({ ninit, nlaunch }, { 1, 1 })
end

tests["a failure has its message and traceback"] = function()
  local name = name_of "jsonl"
  local g <close> = fz.dag()
  g:add("a", {}, function() error "no \"such\"\nthing" end)
  g:map("m", "list", function(x) if x == 2 then error { code = 7 } end return x end)
  g:invoke({ list = { 1, 2, 3 } }, { trace = name, on_error = "continue", retries = 1 })
  local a = find(g.trace, { name = "a", event = "failed" })[1]
  t.match(a.message, 'no "such"\nthing', "stack traceback", "test_trace.lua")
  t.equal(#find(g.trace, { name = "a", event = "retry", message = a.message }), 1)
  t.match(find(g.trace, { name = "m", event = "failed", index = 2 })[1].message, "code = 7")
  t.match(t.read(name), [[no \"such\"\u000athing]])
  for line in io.lines(name) do
    local e = json.decode(line)
    if e.name == "a" then t.equal(e.message, a.message) end
  end
end

tests["a failure of a map has one record: that of the element, or of the list"] = function()
  local g <close> = fz.dag()
  g:map("m", "list", function(x) return x == 2 and error "no" or x end)
  g:add("z", { "m" }, function() end)
  g:invoke({ list = { 1, 2, 3 } }, { trace = true, on_error = "continue" })
  local failed = find(g.trace, { event = "failed" })
  t.equal({ #failed, failed[1].index }, { 1, 2 })
  t.equal(#find(g.trace, { event = "cancelled", name = "z" }), 1)
  g:invoke({ list = 7 }, { trace = true, on_error = "continue" })
  failed = find(g.trace, { event = "failed" })
  t.equal({ #failed, failed[1].name, failed[1].error }, { 1, "m", "error" })
  t.equal(#find(g.trace, { event = "cancelled", name = "z", error = "cancelled" }), 1)
end

tests["with jobs = 0 the records have the pid of this process"] = function()
  local chain <close> = chain_of_two()
  chain:invoke({ x = 1 }, { trace = true, jobs = 0 })
  t.equal(#chain.trace, 2)
  for _, e in ipairs(chain.trace) do
    t.equal({ e.event, e.pid }, { "done", (core.pid()) })
    assert(e.ended >= e.started)
  end
end

tests["spawned workers are recorded, too"] = function()
  local s = fz.stage { name = "s", start = "spawn" }
  s:register("y", { "x" }, function(x) return x end)
  local chain <close> = fz.chain { s }
  chain:invoke({ x = 1 }, { trace = true })
  t.equal({ #chain.trace, chain.trace[1].event }, { 1, "done" })
end

tests["a run in a worker has a trace of its own, the outer one only the outer call"] = function()
  local outer = fz.dag()
  outer:add("count", {}, function()
    local inner <close> = fz.dag()
    inner:add("a", {}, function() return 1 end)
    inner:add("b", { "a" }, function(a) return a end)
    inner:invoke({}, { trace = true, jobs = 1 })
    return #inner.trace
  end)
  outer:invoke({}, { trace = true })
  t.equal({ outer.output.count, #outer.trace }, { 2, 1 })
  outer:close()
end

tests["a .jsonl file has an object a line: the begin, the records, the end"] = function()
  local name = name_of "jsonl"
  local g <close> = fz.dag()
  g:add('"\\\n\1', {}, function() return 1 end)
  for i = 1, 300 do g:add("n" .. i, {}, function() return i end) end
  g:invoke({}, { trace = name })
  local lines = {}
  for line in io.lines(name) do lines[#lines + 1] = json.decode(line) end
  t.equal(#lines, 303)
  t.equal({ lines[1].event, lines[303].event }, { "begin", "end" })
  local names = {}
  for i = 2, 302 do
    local e, kept = lines[i], g.trace[i - 1]
    t.equal({ e.event, e.name, e.sent, e.pid }, { kept.event, kept.name, kept.sent, kept.pid })
    assert(math.abs(e.ended - kept.ended) < 1e-4 and e.started <= e.ended)
    names[e.name] = true
  end
  assert(names['"\\\n\1'] and names.n300)
end

tests["a .json file is an array of Chrome's events"] = function()
  local name = name_of "json"
  local chain <close> = chain_of_two()
  chain:invoke({ x = 1 }, { trace = name })
  local list = json.decode(t.read(name))
  t.equal(#list, 3)
  local a = list[1]
  t.equal({ a.ph, a.name, a.stage, a.tid, a.args.event },
    { "X", "A", "load", chain.trace[1].pid, "done" })
  assert(a.dur >= 0 and math.abs(a.ts / 1e6 - chain.trace[1].started) < 1e-3)
end

-- The fields of complete events ("X") and metadata ("M") in the Trace Event Format, see Perfetto.
local SCHEMA <const> = {
  X = { name = "string", cat = "string", ts = "number", dur = "number", pid = "integer",
    tid = "integer", args = "table" },
  M = { name = "string", pid = "integer", args = "table" },
}

local function assert_chrome_event(e)
  local wanted = assert(SCHEMA[e.ph], e.ph)
  for field, kind in pairs(wanted) do
    local value = e[field]
    t.equal({ field, kind == "integer" and math.type(value) or type(value) }, { field, kind })
  end
  if e.ph == "M" then
    t.equal({ e.name, type(e.args.name) }, { "process_name", "string" })
  else
    assert(e.ts > 1e15 and e.dur >= 0 and e.name ~= "")
    assert(e.args.event == e.cat and e.args.n >= 1)
  end
end

tests["a .json file follows the schema of trace events, with all kinds of calls"] = function()
  local name = name_of "json"
  local g <close> = fz.dag()
  g:add('"\\\1</script>\xff', {}, function() error "no" end, { retries = 1 })
  g:add("gone", {}, function() os.exit(3) end)
  g:add("after", { "gone" }, function() end)
  g:map("m", "list", function(x) return x end)
  g:invoke({ list = t.numbers(1000) }, { trace = name, on_error = "continue", jobs = 2 })
  local text = t.read(name)
  local events, words, items = json.decode(text), {}, 0
  t.equal(utf8.len(text) ~= nil, true)
  for _, e in ipairs(events) do
    assert_chrome_event(e)
    if e.ph == "X" then words[e.cat] = true end
    if e.name == "m" then items = items + e.args.n end
  end
  t.equal(words, { done = true, retry = true, failed = true })
  t.equal(items, 1000)
end

tests["two traces at once have their own calls; two of one file are an error"] = function()
  local names = { name_of "jsonl", name_of "jsonl" }
  local dags, futures = {}, {}
  for i, name in ipairs(names) do
    local g = fz.dag()
    for k = 1, 20 do g:add(("g%d n%d"):format(i, k), {}, function() fz.sleep(0.002) end) end
    dags[i] = g
    futures[i] = fz.spawn(function() g:invoke({}, { trace = name, jobs = 2 }) end)
  end
  fz.gather(table.unpack(futures))
  for i, g in ipairs(dags) do
    t.equal(#g.trace, 20)
    local lines = 0
    for line in io.lines(names[i]) do
      local e = json.decode(line)
      if e.name then
        lines = lines + 1
        assert(e.name:find("g" .. i, 1, true) == 1, e.name)
      end
    end
    t.equal(lines, 20)
    g:close()
  end
  local g <close> = fz.dag()
  local other <close> = fz.dag()
  other:add("a", {}, function() end)
  g:add("slow", {}, function() fz.sleep(60) end)
  local first = fz.spawn(function() g:invoke({}, { trace = names[1] }) end)
  fz.sleep(0.05)
  local e = t.fails("error", other.invoke, other, {}, { trace = names[1] })
  t.match(e.message, "is being written by another run")
  first:cancel()
end

tests["a .tsv file is a job log of GNU parallel"] = function()
  local name = name_of "tsv"
  local g <close> = fz.dag()
  g:add("a\tb", {}, function() return 1 end)
  g:add("c", {}, function() os.exit(3) end)
  g:invoke({}, { trace = name, on_error = "continue" })
  local rows = {}
  for line in io.lines(name) do
    local row = {}
    for field in line:gmatch "[^\t]+" do row[#row + 1] = field end
    rows[#rows + 1] = row
  end
  t.equal(table.concat(rows[1], " "),
    "Seq Host Starttime JobRuntime Send Receive Exitval Signal Command")
  t.equal(#rows, 3)
  for i = 2, 3 do
    local row = rows[i]
    t.equal({ #row, row[1], row[2], row[8] }, { 9, tostring(i - 1), ":", "0" })
    t.equal(row[7], row[9] == "c" and "3" or "0")
  end
  t.match(rows[2][9] .. rows[3][9], "a b")
end

tests["a file that cannot be written is an error before anything runs"] = function()
  local ran, full = name_of "ran", name_of "jsonl"
  local g <close> = fz.dag()
  g:add("a", {}, function() io.open(ran, "w"):close() end)
  assert(os.execute(("ln -s /dev/full %s"):format(full)))
  for _, name in ipairs { "/nowhere/x.jsonl", full } do
    local e = t.fails("error", g.invoke, g, {}, { trace = name })
    t.match(e.message, "the trace " .. name)
    e = t.fails("error", g.stream, g, { {} }, { trace = name })
    t.match(e.message, "the trace " .. name)
  end
  t.equal(io.open(ran), nil)
  for _, wrong in ipairs { "x.txt", "", "json", 1 } do
    t.match(t.wrong(g.invoke, g, {}, { trace = wrong }), "bad option 'trace'", ".jsonl")
  end
end

return tests
