-- --explain: one screen, and predictions that hold against real runs.
local t = ...
local simulation = require "fzlua.simulation"
local run_advice = require "fzlua.run_advice"
local tests = {}

local function calls(n, took, group)
  local list = {}
  for i = 1, n do list[i] = { took = took, group = group, before = {} } end
  return list
end

tests["a simulation has places, workers, order and speed"] = function()
  local list = calls(8, 1, 1)
  t.equal(simulation.time(list, { jobs = 1 }), 8.0)
  t.equal(simulation.time(list, { jobs = 3 }), 3.0)
  t.equal(simulation.time(list, { jobs = 8, workers = { 2 } }), 4.0)
  t.equal(simulation.time(list, { jobs = 4, faster = { 2 } }), 1.0)
  list[8].before = { 1, 2 }
  t.equal(simulation.time(list, { jobs = 100 }), 2.0)
  list[1].from = 5
  t.equal(simulation.time(list, { jobs = 100 }), 7.0)
  list[8].pause = 0.5
  t.equal(simulation.time(list, { jobs = 100 }), 7.5)
  t.equal(simulation.time({}, { jobs = 1 }), 0)
end

tests["calls that compute share the processors, and calls that wait do not"] = function()
  local list = calls(8, 1, 1)
  for _, call in ipairs(list) do call.cpu = 1 end
  local function time(jobs, processors)
    return simulation.time(list, { jobs = jobs, processors = processors })
  end
  t.equal({ time(1, 2), time(2, 2), time(4, 2), time(8, 2), time(4, 4) },
    { 8.0, 4.0, 4.0, 4.0, 2.0 })
  for _, call in ipairs(list) do call.cpu = 0.25 end -- as in a run of 8 workers on 2 processors
  t.equal({ time(4, 2), time(8, 2) }, { 2.0, 1.0 })
  list = calls(16, 1, 1)
  for _, call in ipairs(list) do call.cpu = 0.25 end
  t.equal({ time(8, 2), time(16, 2) }, { 2.0, 2.0 })
  list = calls(4, 1, 1)
  list[1].cpu, list[2].cpu, list[3].cpu = 1, 1, 1
  list[4].took = 2 -- the call waits for 1 s
  t.equal({ time(4, 1), time(4, 3) }, { 3.0, 2.0 })
  -- Two calls compute for 1 s at half speed; then one of them runs alone.
  list = calls(2, 1, 1)
  list[1].cpu, list[2].cpu, list[2].took = 1, 1, 3
  t.equal(time(2, 1), 4.0)
end

tests["the script does its work one after the other, and so do the starts of workers"] = function()
  local list = calls(3, 1, 1)
  for _, call in ipairs(list) do call.script = 2 end
  t.equal(simulation.time(list, { jobs = 3 }), 7.0)
  t.equal(simulation.time(list, { jobs = 1 }), 7.0) -- calls run while the script goes on
  list = calls(4, 1, 1)
  local workers = { first_launch = 0.5, first_boot = 0.25, launch = 0.5, boot = 0.25, init = 1 }
  for _, call in ipairs(list) do call.workers = workers end
  -- The workers are ready at 0.75 and 1.25; each has a second of init, and two calls.
  t.equal(simulation.time(list, { jobs = 2 }), 4.25)
  t.equal(simulation.time(list, { jobs = 1 }), 5.75)
  -- A second map has workers of its own; the first of them was there before.
  for i = 3, 4 do
    list[i].before = { 1, 2 }
    list[i].workers = { first_launch = 0, first_boot = 0, launch = 2, boot = 0, init = 0 }
  end
  list[4].workers = list[3].workers
  t.equal(simulation.time(list, { jobs = 2 }), 6.25) -- 3.25 + 2 + 1
end

tests["a script that computes needs a processor, and one that waits does not"] = function()
  local list = calls(4, 2, 1)
  for _, call in ipairs(list) do call.cpu, call.script = 1, 1 end
  local function time(script_cpu)
    return simulation.time(list, { jobs = 2, processors = 2, script_cpu = script_cpu })
  end
  t.equal(time(0), 6.0) -- calls from 1 to 3, 2 to 4, 3 to 5 and 4 to 6
  assert(time(1) > 6.5 and time(1) < 8, time(1))
end

-- The records of a stage whose workers take 0.5 s to start in the script's process, 0.25 s more
-- until their first call, and 2 s for init.
local function records_of_starts()
  local records = {}
  for i = 1, 4 do
    local at = i == 1 and 0.75 or 2.75 + (i - 1)
    records[i] = { event = "done", stage = "s", name = "f" .. i, n = 1, attempt = 1, pid = 7,
      queued = 0.0, started = at, ended = i == 1 and 3.75 or at + 1,
      init = i == 1 and 2.0 or nil, launch = i == 1 and 0.5 or nil }
  end
  return records
end

tests["each worker starts, and is initialised"] = function()
  local run = run_advice.read { records = records_of_starts(), call_names = {}, jobs = 1,
    plans = {} }
  local gains, model = run_advice.gains(run)
  t.equal(model, 6.75)
  t.equal(gains.x2.predicted, 5.25) -- the second worker: 0.5 + 0.75 + 2 + 2
  t.equal(gains.x4.predicted, 5.25 - 1 + 2 * 0.5) -- the fourth one: 2 + 0.25 + 2 + 1
end

tests["a call that waits for a place does not wait for the start of its worker"] = function()
  local function call(name, pid, queued, started, ended)
    return { event = "done", name = name, n = 1, attempt = 1, pid = pid, queued = queued,
      started = started, ended = ended, launch = 0.125 }
  end
  -- The second call is queued before the first one starts, which takes the only place.
  local records = { call("a", 1, 0.0, 0.25, 10.0), call("b", 2, 0.0, 10.25, 11.0) }
  local run = run_advice.read { records = records, call_names = {}, jobs = 1, plans = {} }
  local gains, model = run_advice.gains(run)
  t.equal(model, 11.0)
  t.equal(gains.x2.predicted, 10.0)
end

tests["the elements of a list are queued once the script has made it"] = function()
  local records = {}
  local function add(index, pid, queued, started, ended, attempt)
    records[#records + 1] = { event = "done", name = "fz.map x", index = index, n = 1, pid = pid,
      attempt = attempt or 1, queued = queued, started = started, ended = ended }
  end
  -- Two lists of four elements, which the script makes in 5 s each. The second element of the first
  -- list ends last, and one of the second list is tried again.
  add(1, 1, 5.0, 5.0, 6.0) add(3, 1, 5.0, 6.0, 7.0) add(4, 1, 5.0, 7.0, 8.0)
  add(2, 1, 5.0, 8.0, 9.0)
  add(2, 1, 14.0, 14.0, 15.0) add(1, 1, 14.0, 15.0, 16.0) add(3, 1, 14.0, 16.0, 17.0)
  add(1, 1, 17.0, 17.0, 18.0, 2)
  local run = run_advice.read { records = records, call_names = { ["fz.map x"] = true },
    jobs = 1, plans = {} }
  local gains, model = run_advice.gains(run)
  t.equal(model, 13.0) -- 4 s, 5 s of the script, 4 s
  t.equal(gains.x2.predicted, 9.0)
  t.equal(gains.x4.predicted, 7.0)
end

tests["the script takes the results of a map one after the other"] = function()
  local records = {}
  for i = 1, 8 do
    records[i] = { event = "done", name = "fz.map x", index = i, n = 1, attempt = 1, pid = 7,
      queued = 0.0, started = i - 1.0, ended = i + 0.0, received = 100, cpu = 0.01 }
  end
  local source = { records = records, call_names = { ["fz.map x"] = true }, jobs = 1, plans = {},
    run_cpu = 6.0 }
  local run = run_advice.read(source)
  local gains, model = run_advice.gains(run)
  t.equal(model, 8.75) -- the last result is taken after the last call
  t.equal(gains.x2.predicted, 1 + 8 * 0.75)
  t.equal(gains.x4.predicted, 1 + 8 * 0.75)
  t.match(run_advice.text(source), "\nbound by the script, which took 6.00 s for results")
end

-- The records of an imap whose source takes 1 s for an item; a call takes 4 s. There is one worker,
-- and two items are under way at the same time.
local function records_of_imap(n)
  local records, ended = {}, {}
  for i = 1, n do
    local queued = i <= 2 and i - 1.0 or ended[i - 2] + 1
    local started = math.max(queued, ended[i - 1] or 0.0)
    ended[i] = started + 4
    records[i] = { event = "done", name = "fz.imap x", index = i, n = 1, attempt = 1, pid = 7,
      queued = queued, started = started, ended = ended[i] }
  end
  return records
end

tests["the source of an imap is read by one process, in a window"] = function()
  local function predicted(window)
    local run = run_advice.read { records = records_of_imap(20), plans = {}, jobs = 1,
      call_names = { ["fz.imap x"] = true }, windows = { ["fz.imap x"] = window } }
    local gains, model = run_advice.gains(run)
    t.equal(model, 80.0)
    return gains.x2.predicted, gains.x4.predicted
  end
  local two, four = predicted { limit = 2, is_fixed = false }
  assert(two >= 40 and two <= 42 and four >= 20 and four <= 25, two .. " " .. four)
  two, four = predicted { limit = 2, is_fixed = true }
  -- Two calls run at once; each is queued one second after the end of another.
  assert(two == four and two >= 48 and two <= 52, two .. " " .. four)
end

tests["the first line after the time says what bounds a run"] = function()
  local function text(records, nodes, jobs, processors)
    return run_advice.text { records = records, call_names = { m = true }, jobs = jobs,
      processors = processors, plans = { { nodes = nodes or {} } } }
  end
  local function call(name, queued, started, ended, cpu)
    return { event = "done", name = name, n = 1, attempt = 1, pid = 7, queued = queued,
      started = started, ended = ended, cpu = cpu }
  end
  local alone = { call("a", 0, 0, 1, 1), call("b", 0, 1, 2, 1), call("c", 0, 2, 3, 1) }
  t.match(text(alone, nil, 1), "\nbound by the number of functions at once: with -j 2")
  t.match(text(alone, nil, 1, 1), "\nbound by the processors of this machine (1)")
  for _, e in ipairs(alone) do e.cpu = nil end -- in the script's process
  t.match(text(alone, nil, 1, 1), "\nbound by the processors of this machine (1)")
  local nodes = { { name = "a", before = {} }, { name = "b", before = { 1 } },
    { name = "c", before = { 2 } } }
  alone[2].queued, alone[3].queued = 1, 2
  t.match(text(alone, nodes, 1), "\nbound by calls that wait for each other")
  local late = { call("a", 0, 0, 1), call("b", 9, 9, 10) }
  t.match(text(late, nil, 1), "\nbound by the script itself", "no function ran for 8.00 s (80 %")
  late[1].started, late[1].ended, late[1].launch = 7, 8, 7
  t.match(text(late, nil, 1), "\nbound by the starts of workers")
end

tests["a load of other programs is named"] = function()
  local machine_load = require "fzlua.machine_load"
  local path = t.file [[
cpu  100 50 30 4000 900 7 3 10 0 0
cpu0 50 25 15 2000 450 3 2 5 0 0
cpu1 50 25 15 2000 450 4 1 5 0 0
intr 5 0
cpu9 1 1 1 1]]
  local load = machine_load.read(path)
  assert(math.abs(load.busy - 2) < 1e-9, load.busy)
  t.equal(load.processors, 2)
  t.equal(machine_load.read(t.file "intr 5\n"), nil)
  t.equal(machine_load.read(path .. ".no"), nil)
  local records = { { event = "done", name = "f", n = 1, attempt = 1, pid = 7, queued = 0.0,
    started = 0.0, ended = 1.0, cpu = 0.5 } }
  local function text(busy, seconds)
    return run_advice.text { records = records, call_names = {}, jobs = 1, plans = {},
      processors = 2, script_cpu = 0.25, load = { busy = busy, seconds = seconds } }
  end
  t.match(text(2.25, 1.0), "\nother programs used 1.5 of the 2 processors meanwhile")
  local run = run_advice.read { records = records, call_names = {}, jobs = 1, plans = {},
    processors = 2, script_cpu = 0, load = { busy = 1.5, seconds = 1.0 } }
  t.equal(run.calls[1].cpu, 1.0) -- it had half a processor while other programs had one of two
  for _, quiet in ipairs { text(0.9, 1.0), text(2.25, 0.05), text(0, 1.0) } do
    assert(not quiet:find "other programs", quiet)
  end
end

-- The records of a stream of `n` items. A call in stage i sleeps times[i] seconds, one call runs at
-- a time, and at most `window` items are in the stream at the same time.
local function recorded(n, times, window)
  local records, clock, left, done = {}, 0, {}, {}
  for item = 1, n do left[item] = 1 end
  local function entered(item) return item <= window or (left[item - window] or 0) > #times end
  while true do
    local best
    for item = 1, n do -- of the items in the stream, choose the one in the latest stage
      if left[item] <= #times and entered(item) and (not best or left[item] > left[best]) then
        best = item
      end
    end
    if not best then return records end
    local stage = left[best]
    local queued = stage > 1 and done[best] or done[best - window] or 0
    records[#records + 1] = { event = "done", stage = "s" .. stage, name = "f" .. stage,
      item = best, n = 1, attempt = 1, pid = stage, queued = queued, started = clock,
      ended = clock + times[stage] }
    clock = clock + times[stage]
    left[best], done[best] = stage + 1, clock
  end
end

tests["the items of a stream enter by its window, which grows with the workers"] = function()
  local nodes = { { stage = "s1", name = "f1", before = {} },
    { stage = "s2", name = "f2", before = { 1 } } }
  for _, fixed in ipairs { false, true } do
    local run = run_advice.read { records = recorded(40, { 4, 2 }, 2), call_names = {}, jobs = 1,
      plans = { { nodes = nodes, staged = true, window = 2, is_window_fixed = fixed } } }
    local gains, model = run_advice.gains(run)
    t.equal(model, 240.0)
    local by_factor = {}
    for _, gain in ipairs(gains) do
      local factor = gain.text:match "^(%d) times"
      if factor then by_factor[tonumber(factor)] = gain.predicted end
    end
    -- An item takes 6 s. With a fixed window, at most two items are in the stream.
    assert(by_factor[2] >= 120 and by_factor[2] <= 132, by_factor[2])
    if fixed then
      assert(by_factor[4] >= 120, by_factor[4])
    else
      assert(by_factor[4] >= 60 and by_factor[4] <= 72, by_factor[4])
    end
  end
end

tests["an attempt follows the one before, and so do two streams of a chain"] = function()
  local nodes = { { stage = "s", name = "f", before = {} } }
  local plan = { nodes = nodes, staged = true, window = 2 }
  local records = {}
  for i = 1, 4 do
    records[i] = { event = i < 4 and "retry" or "done", stage = "s", name = "f", item = 1, n = 1,
      attempt = i, pid = 1, queued = i - 1.0, started = i - 1.0, ended = i + 0.0 }
  end
  for item = 1, 3 do -- another stream; its second item ends first
    local at = 4.0 + ({ 1, 0, 2 })[item]
    records[#records + 1] = { event = "done", stage = "s", name = "f", item = item, n = 1,
      attempt = 1, pid = 1, queued = 4.0, started = at, ended = at + 1 }
  end
  local run = run_advice.read { records = records, call_names = {}, jobs = 1, plans = { plan } }
  local gains, model = run_advice.gains(run)
  t.equal(model, 7.0)
  for _, gain in ipairs(gains) do
    if gain.text:find "^4 times" then t.equal(gain.predicted, 5.0) end
  end
end

tests["what a run takes between its calls does not become less"] = function()
  local nodes = { { stage = "a", name = "f", before = {} },
    { stage = "b", name = "g", before = { 1 } }, { stage = "b", name = "h", before = { 1 } } }
  local function call(stage, name, queued, started, ended)
    return { event = "done", stage = stage, name = name, n = 1, attempt = 1, pid = 1,
      queued = queued, started = started, ended = ended }
  end
  local records = { call("a", "f", 0.0, 2.0, 3.0), call("b", "g", 3.0, 5.0, 9.0),
    call("b", "h", 3.0, 9.0, 13.0) }
  local text = run_advice.text { records = records, call_names = {}, jobs = 1,
    plans = { { nodes = nodes, staged = true } } }
  t.match(text, "explain: 13.0 s with -j 1", "\n  b  ",
    "explains 9.00 s of this run; the other 4.00 s stay")
  for what, seconds in pairs { ["b twice as fast"] = "9.00", ["2 times the workers"] = "9.00",
    ["a twice as fast"] = "12.5" } do
    assert(text:find(("\n  %s[^\n]* %s s"):format(what, seconds)), text)
  end
end

-- Run a stream of 12 items through two stages that sleep. Returns its seconds and its records.
local function stream(jobs)
  local a, b = fz.stage { name = "a", workers = jobs }, fz.stage { name = "b", workers = jobs }
  a:register("x", "n", function(n) fz.sleep(0.06) return n end)
  b:register("y", "x", function(x) fz.sleep(0.03) return x end)
  local chain <close> = a >> b
  local items = t.numbers(12)
  local options = { jobs = jobs, trace = true, inflight = 12 }
  local before = fz.now()
  for _ in chain:stream(items, options) do end -- luacheck: ignore
  return fz.now() - before, chain.trace
end

tests["the prediction for more workers is near to what these take"] = function()
  local nodes = { { stage = "a", name = "x", before = {} },
    { stage = "b", name = "y", before = { 1 } } }
  local _, trace = stream(1)
  local real = stream(2)
  local run = run_advice.read { records = trace, call_names = {}, jobs = 1,
    plans = { { nodes = nodes, staged = true } } }
  local gains, model = run_advice.gains(run)
  local predicted
  for _, gain in ipairs(gains) do
    if gain.text:find "^2 times" then predicted = gain.predicted end
  end
  assert(predicted < model, predicted)
  assert(real >= 0.5 * predicted, ("%.3f s, but %.3f s were predicted"):format(real, predicted))
  assert(predicted >= 0.3, predicted) -- no less than the sleeps of two workers
end

-- Runs whose functions sleep, so that two processors suffice for any number of workers.
local KINDS <const> = {
  chain = function(options)
    local a, b = fz.stage "a", fz.stage "b"
    for i = 1, 6 do
      a:register("x" .. i, {}, function() fz.sleep(0.01 * i) return i end)
      b:register("y" .. i, "x" .. i, function(x) fz.sleep(0.02) return x end)
    end
    local chain <close> = a >> b
    chain:invoke({}, options)
    return chain.trace
  end,
  map = function(options)
    local g <close> = fz.dag()
    g:map("m", "list", function(x) fz.sleep(0.01 + x % 3 * 0.01) return x end)
    g:add("all", { "m" }, function() fz.sleep(0.02) end)
    g:invoke({ list = t.numbers(12) }, options)
    return g.trace
  end,
  stream = function(options)
    local a, b = fz.stage "a", fz.stage "b"
    a:register("x", "n", function(n) fz.sleep(0.03) return n end)
    b:register("y", "x", function(x) fz.sleep(0.01) return x end)
    local chain <close> = a >> b
    for _ in chain:stream(t.numbers(12), options) do end -- luacheck: ignore
    return chain.trace
  end,
}

-- The seconds of a run, and the seconds predicted from its trace for four times the workers and
-- for the same number.
local function run_kind(kind, jobs)
  local page = t.file "" .. ".html"
  t.files[#t.files + 1] = page
  local before = fz.now()
  local trace = KINDS[kind] { jobs = jobs, trace = true, report = page }
  local seconds, source = fz.now() - before, trace:source()
  source.jobs = jobs
  local run = run_advice.read(source)
  local gains, model = run_advice.gains(run)
  for _, gain in ipairs(gains) do
    if gain.text:find "^4 times" then return seconds, gain.predicted, model end
  end
end

tests["predictions for chains, maps and streams are near to real runs"] = function()
  for kind in pairs(KINDS) do
    local _, predicted, model = run_kind(kind, 1)
    local real = run_kind(kind, 4)
    assert(predicted >= 0.05 and predicted <= model, predicted)
    -- On an idle machine the times differ by less than 15 %. On a busy machine the run may take far
    -- longer.
    assert(predicted / real > 0.1 and predicted / real < 10,
      ("%s: %.3f s, but %.3f s were predicted"):format(kind, real, predicted))
  end
end

tests["the workers of calls that follow each other are not counted together"] = function()
  local records = {}
  for round = 0, 4 do
    for i = 1, 8 do -- two workers for each round
      local at = round * 4.0 + (i - 1) // 2
      records[#records + 1] = { event = "done", name = "fz.map x", index = i, n = 1, attempt = 1,
        pid = 2 * round + i % 2, queued = round * 4.0, started = at, ended = at + 1 }
    end
  end
  local source = { records = records, call_names = { ["fz.map x"] = true }, plans = {} }
  local run = run_advice.read(source)
  t.equal({ run.jobs, run.stages[1].n }, { 2, 2 })
  for _, gain in ipairs((run_advice.gains(run))) do
    if gain.text:find "^2 times" then t.equal(gain.predicted, 10.0) end
    if gain.text:find "^4 times" then t.equal(gain.predicted, 5.0) end
  end
  t.match(run_advice.text(source), "explain: 20.0 s with -j 2, 2.0 functions",
    "nothing to do for 0.00 ms")
end

tests["what small calls cost between them is what larger chunks save"] = function()
  local records = {}
  for i = 1, 1000 do -- two workers, which wait 90 us after each call of 10 us
    local at = (i - 1) // 2 * 100e-6
    records[i] = { event = "done", name = "fz.map x", index = i, n = 1, attempt = 1,
      pid = i % 2 + 1, queued = 0.0, started = at, ended = at + 10e-6 }
  end
  local source = { records = records, call_names = { ["fz.map x"] = true }, plans = {} }
  local text = run_advice.text(source)
  t.match(text, "explain: 49.9 ms",
    "a call of fz.map x takes 10.0 us, and its worker waits 89.8 us", "would save up to 44.9 ms")
  -- Of the 45 ms between calls, a tenth is work for items; nine tenths of the rest are saved.
  assert(text:find "\n  fz.map x in chunks 10 times as large +13.5 ms", text)
  for _, record in ipairs(records) do record.ended = record.ended + 80e-6 end
  text = run_advice.text(source)
  assert(not text:find "chunk", text)
end

tests["--explain fits on one screen and names the slowest stage"] = function()
  local script = t.file [[
local slow, quick = fz.stage "slow", fz.stage "quick"
slow:map("a", "list", function(x) fz.sleep(0.01) return x end)
quick:register("b", "a", function(a) return #a end)
local chain <close> = slow >> quick
chain:invoke({list = {1, 2, 3, 4, 5, 6}}, {jobs = 2})
print(chain.output.b)]]
  local out, err, status = t.command("--explain", script)
  t.equal({ out, status }, { "6\n", 0 })
  t.match(err, "critical path: ", "stages, the slowest first:\n  slow ", "bytes: ", "-j 4",
    "slow twice as fast")
  local _, lines = err:gsub("\n", "")
  assert(lines <= 24, err)
  for line in err:gmatch "[^\n]+" do assert(not line:find "%c", line) end
end

tests["--explain says so if nothing was called, and follows an error"] = function()
  local _, err = t.command("--explain", "-e", "print(1)")
  t.equal(err, "explain: no function was called\n")
  _, err = t.command("--explain", "-e", "fz.map(function(x) return x end, {1}) error 'no'")
  t.match(err, "no\n", "\nbound by ", "stages, the slowest first:")
end

return tests
