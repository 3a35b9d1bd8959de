--- run_advice.lua - what limited the speed of a run, as a text of one screen (--explain).

local simulation = require "fzlua.simulation"
local worker_times = require "fzlua.worker_times"

local run_advice = {}

local max, min = math.max, math.min

-- A longer wait of a worker between two calls counts only from the time when the next chunk was
-- queued, because before that there was nothing to send.
local GAP_MAX <const> = 1e-3

-- The part of the time between calls that larger chunks do not save, because each item takes it.
local EACH_ITEM <const> = 0.1

-- The maximum number of calls named on the critical path, and of calls in the simulation.
local PATH_MAX <const> = 6
local CALLS_MAX <const> = 200000

local function seconds(s)
  if s >= 10 then return ("%.1f s"):format(s) end
  if s >= 1 then return ("%.2f s"):format(s) end
  if s >= 0.01 then return ("%.0f ms"):format(s * 1000) end
  return ("%.2f ms"):format(s * 1000)
end

local function micros(s) return s < 1e-3 and ("%.1f us"):format(s * 1e6) or seconds(s) end

local function bytes(n)
  if n >= 1e9 then return ("%.1f GB"):format(n / 1e9) end
  if n >= 1e6 then return ("%.1f MB"):format(n / 1e6) end
  return ("%.1f kB"):format(n / 1e3)
end

-- A name without control characters, so that it stays on one line of a terminal.
local function shown(name)
  name = tostring(name):gsub("%c", "?")
  return #name > 40 and name:sub(1, 37) .. "..." or name
end

---The nodes of a graph of the engine.
---@param plan fzlua.RunPlan
---@return table[] stage, name, `before`: the numbers of the nodes that it needs
function run_advice.nodes(plan)
  local nodes = {}
  for i = 1, plan.names:count() do
    local name, stage = plan.names:get(i)
    nodes[i] = { stage = stage, name = name, before = plan.graph:makers(i) }
  end
  return nodes
end

-- A table from the stage and name of a function to its node in a graph.
local function nodes_of(plans)
  local by_key = {}
  for p, plan in ipairs(plans) do
    local nodes = plan.nodes or run_advice.nodes(plan)
    plan.nodes = nodes
    for i, node in ipairs(nodes) do
      local key = (node.stage or "") .. "\0" .. node.name
      by_key[key] = by_key[key] or { plan = p, number = i, before = node.before, plan_of = plan }
    end
  end
  return by_key
end

local function stage_of(source, e)
  return e.stage or (source.call_names[e.name] and e.name) or "dag"
end

local function key_of(stage, name) return (stage or "") .. "\0" .. name end

-- Sort calls by the time at which they ended. The records are in another order: that in which the
-- answers of different workers were read.
local function sort_by_ends(calls)
  for i, call in ipairs(calls) do call.order = i end
  for i = 2, #calls do
    if calls[i].e.ended < calls[i - 1].e.ended then
      table.sort(calls, function(a, b)
        if a.e.ended ~= b.e.ended then return a.e.ended < b.e.ended end
        return a.order < b.order
      end)
      return
    end
  end
end

-- Compute for each stage how long its workers waited between two calls, and for a map how long its
-- first chunk took to prepare.
local function add_gaps(run)
  local last = {} -- worker -> its last call
  for _, call in ipairs(run.calls) do
    local e, before, stage = call.e, last[call.worker], run.stages[call.group]
    if before and before.group == call.group then
      local gap = e.started - before.e.ended
      if gap >= GAP_MAX then gap = min(gap, e.started - (e.queued or e.started)) end
      stage.gaps = stage.gaps + max(gap, 0)
    end
    last[call.worker] = call
    stage.queued = min(stage.queued or math.huge, e.queued or e.started)
    stage.started = min(stage.started or math.huge, e.started)
  end
  for _, stage in ipairs(run.stages) do
    if stage.is_map then stage.prepared = max(stage.started - stage.queued, 0) end
  end
end

-- Read the calls and the stages of a run from its records.
local function read(source)
  local run = { calls = {}, stages = {}, number = {}, began = math.huge, ended = 0, busy = 0,
    sent = 0, received = 0, whole = {}, of = {}, workers = {}, cached = 0 }
  for i = 1, min(#source.records, CALLS_MAX) do
    local e = source.records[i]
    if e.event == "cached" then run.cached = run.cached + e.n end
    if e.pid then
      local name = stage_of(source, e)
      local number = run.number[name]
      if not number then
        number = #run.stages + 1
        run.number[name] = number
        run.stages[number] = { name = name, busy = 0, cpu = 0, calls = 0, waited = 0,
          records = 0, gaps = 0, prepared = 0, workers = {} }
      end
      local stage, took = run.stages[number], max(e.ended - e.started, 0)
      stage.busy, stage.cpu = stage.busy + took, stage.cpu + (e.cpu or 0)
      stage.calls, stage.records = stage.calls + e.n, stage.records + 1
      stage.is_map = stage.is_map or e.index ~= nil
      stage.waited = stage.waited + max(e.started - (e.queued or e.started), 0)
      local key = e.node and e.node .. " " .. e.pid or e.pid
      worker_times.note(stage.workers, key, e.started, e.ended)
      worker_times.note(run.workers, key, e.started, e.ended)
      run.busy = run.busy + took
      run.sent, run.received = run.sent + (e.sent or 0), run.received + (e.received or 0)
      run.began, run.ended = min(run.began, e.queued or e.started), max(run.ended, e.ended)
      run.calls[#run.calls + 1] = { e = e, took = took, group = number, before = {}, n = e.n,
        worker = key, key = key_of(e.stage, e.name),
        cpu = took > 0 and min((e.cpu or 0) / took, 1) or 0 }
      if e.node then run.is_remote = true end
    end
  end
  sort_by_ends(run.calls)
  add_gaps(run)
  for _, stage in ipairs(run.stages) do stage.n = worker_times.most_at_once(stage.workers) end
  run.nworkers = worker_times.most_at_once(run.workers)
  return run
end

-- The call that ended last before this call was queued, because the script may have waited for it;
-- nil if no call had ended. All elements of a list were queued together with its first element.
local function previous(run, call, first_of)
  local e = call.e
  if e.index and e.index > 1 and first_of[call.key] then return first_of[call.key][1] end
  local queued, low, high = e.queued or e.started, 0, #run.calls
  while low < high do
    local middle = (low + high + 1) // 2
    if run.calls[middle].e.ended <= queued then low = middle else high = middle - 1 end
  end
  local found = low > 0 and low or nil
  if e.index then first_of[call.key] = { found } end
  return found
end

-- The stream of a call. The entries of a stream are the first calls of each item: they need no
-- result of another call. An entry of item i waits until item i - window is done.
local function stream_of(streams, plan, call)
  local stream = streams[plan]
  -- The chain has ended an earlier stream of another source.
  if not stream or call.e.item == 1 and stream.last[1] and #stream.entries > 0
    and stream.seen[call.key] and call.e.attempt == 1 then
    stream = { plan = plan, entries = {}, last = {}, seen = {} }
    streams[plan] = stream
    streams[#streams + 1] = stream
  end
  return stream
end

local function note_item(streams, call, plan, i)
  local stream = stream_of(streams, plan, call)
  stream.last[call.e.item] = i
  if call.e.item == 1 then stream.seen[call.key] = true end
  if #call.before == 0 then stream.entries[#stream.entries + 1] = i end
end

-- Connect each call with the calls whose results it needs. These are, for each input, the last call
-- of its maker for the same item. The last element of a map stands for all its elements. A retry
-- needs the previous attempt instead.
local function connect(run, nodes)
  local last, first_of, streams = {}, {}, {}
  for i, call in ipairs(run.calls) do
    local node, item = nodes[call.key], call.e.item or 0
    local own = call.key .. "\0" .. item
    if (call.e.attempt or 1) > 1 and not call.e.index and last[own] then
      call.before[1] = last[own]
      call.pause = max((call.e.queued or 0) - run.calls[last[own]].e.ended, 0)
    end
    for _, number in ipairs(#call.before == 0 and node and node.before or {}) do
      local maker = node.plan_of.nodes[number]
      call.before[#call.before + 1] = last[key_of(maker.stage, maker.name) .. "\0" .. item]
    end
    if node and node.plan_of.window and item > 0 then
      note_item(streams, call, node.plan_of, i)
    end
    if #call.before == 0 then call.before[1] = previous(run, call, first_of) end
    last[own] = i -- replaces an earlier call: calls are in the order of their ends
  end
  run.streams = streams
end

-- Connect the entries of streams as if all windows were `factor` times as large.
local function widen(run, factor)
  for _, stream in ipairs(run.streams) do
    local window = stream.plan.window * (stream.plan.is_window_fixed and 1 or factor)
    for _, i in ipairs(stream.entries) do
      local call = run.calls[i]
      local last = stream.last[call.e.item - window]
      call.narrow = call.narrow or call.before
      call.before = call.e.item > stream.plan.window and {} or call.narrow
      -- `last` may be a call of another stream of the same chain that ended later.
      if last and run.calls[last].e.ended <= call.e.started then call.before = { last } end
    end
  end
end

-- The critical path, backwards: the call that ended last, the call that it waited for, and so on.
local function critical_path(run)
  local last, path = nil, {}
  for i, call in ipairs(run.calls) do
    if not last or call.e.ended > run.calls[last].e.ended then last = i end
  end
  while last do
    local call, latest = run.calls[last], nil
    path[#path + 1] = call
    for _, before in ipairs(call.before) do
      if not latest or run.calls[before].e.ended > run.calls[latest].e.ended then
        latest = before
      end
    end
    last = latest
  end
  return path
end

local function add_path(lines, run, wall)
  local path, sum = critical_path(run), 0
  for _, call in ipairs(path) do sum = sum + call.took end
  local names = {}
  table.sort(path, function(a, b) return a.took > b.took end)
  local longest = {}
  for i = 1, min(#path, PATH_MAX) do longest[path[i]] = true end
  table.sort(path, function(a, b) return a.e.started < b.e.started end)
  for _, call in ipairs(path) do
    if longest[call] then
      names[#names + 1] = ("%s %s"):format(shown(call.e.name), seconds(call.took))
    end
  end
  lines[#lines + 1] = ("critical path: %d calls, %s of %s (%.0f %%); the longest: %s")
    :format(#path, seconds(sum), seconds(wall), 100 * sum / wall, table.concat(names, ", "))
end

-- Simulate the calls with changed settings; returns the seconds from the first start to the last
-- end.
local function predict(run, change)
  local workers = {}
  for i, stage in ipairs(run.stages) do workers[i] = stage.n end
  local settings = { jobs = run.jobs, workers = workers, processors = run.processors }
  for name, value in pairs(change) do settings[name] = value end
  widen(run, settings.jobs // run.jobs)
  local time = simulation.time(run.calls, settings)
  widen(run, 1)
  return time
end

local function add_gain(list, model, predicted, text, ...)
  list[#list + 1] = { gain = 1 - predicted / model, predicted = predicted,
    text = text:format(...) }
end

---The gains of other settings, by the simulation.
---@param run table from run_advice.read()
---@return table[] a list of `text`, `predicted` in seconds, `gain` from 0 to 1, the best first
---@return number the seconds that the simulation gives for the run as it was
function run_advice.gains(run)
  local model, list = predict(run, {}), {}
  for _, factor in ipairs { 2, 4 } do
    local more = {}
    for i, stage in ipairs(run.stages) do more[i] = factor * stage.n end
    add_gain(list, model, predict(run, { jobs = factor * run.jobs, workers = more }),
      "%d times the workers (-j %d)", factor, factor * run.jobs)
  end
  add_gain(list, model, predict(run, { workers = {} }), "as many workers for a stage as jobs")
  for i, stage in ipairs(run.stages) do
    if i > 20 then break end
    add_gain(list, model, predict(run, { faster = { [i] = 2 } }), "%s twice as fast",
      shown(stage.name))
  end
  table.sort(list, function(a, b) return a.predicted < b.predicted end)
  return list, model
end

---@param source fzlua.RunSource
---@return table|nil run; nil: there were no calls
---@return integer recorded results that were used
function run_advice.read(source)
  local run = read(source)
  if #run.calls == 0 then return nil, run.cached end
  run.jobs = max(source.jobs or 0, 1)
  if (source.jobs or 0) == 0 then run.jobs = run.nworkers end
  -- At most `jobs` workers run at a time. More workers were counted if workers were replaced.
  for _, stage in ipairs(run.stages) do stage.n = min(stage.n, run.jobs) end
  -- The number of processors of other machines is not known.
  run.processors = not run.is_remote and source.processors or nil
  connect(run, nodes_of(source.plans))
  return run, run.cached
end

local function add_stages(lines, run, wall)
  -- Sort a copy, because calls refer to run.stages by number.
  local stages = table.move(run.stages, 1, #run.stages, 1, {})
  table.sort(stages, function(a, b) return a.busy / a.n > b.busy / b.n end)
  for i = 1, min(#stages, 5) do
    local s = stages[i]
    lines[#lines + 1] = ("  %-40s %7d calls  %9s each  %2d workers %3.0f %% busy  cpu %3.0f %%")
      :format(shown(s.name), s.calls, seconds(s.busy / s.calls), s.n,
        100 * s.busy / s.n / wall, s.busy > 0 and min(100 * s.cpu / s.busy, 100) or 0)
  end
end

-- Whether larger chunks, or a map of lists, would save much of the time of a stage.
local function has_small_calls(stage)
  return stage.records >= 100 and stage.busy / stage.calls < 1e-3 and stage.gaps > stage.busy / 2
end

-- Add a line for each stage whose workers wait long between small calls.
local function add_chunks(lines, run)
  for _, s in ipairs(run.stages) do
    if has_small_calls(s) then
      lines[#lines + 1] = ("chunks: a call of %s takes %s, and its worker waits %s for the next "
        .. "one: larger chunks, or a map of lists, would save up to %s"):format(shown(s.name),
        micros(s.busy / s.calls), micros(s.gaps / s.records),
        seconds(s.gaps / s.n + s.prepared))
    end
  end
end

-- Add the gains of ten times as many items in each chunk, for maps of small calls.
local function add_larger_chunks(gains, model, rest, run)
  for _, s in ipairs(run.stages) do
    if s.is_map and has_small_calls(s) then
      local saved = (s.gaps / s.n + s.prepared) * (1 - EACH_ITEM) * 0.9
      gains[#gains + 1] = { predicted = max(model - saved, -rest),
        text = ("%s in chunks 10 times as large"):format(shown(s.name)) }
    end
  end
  table.sort(gains, function(a, b) return a.predicted < b.predicted end)
end

-- Add the predictions for other settings. The simulation contains only calls. The rest of the time
-- (starts of workers, the work of this process between calls) is added unchanged.
local function add_gains(lines, run, wall)
  local gains, model = run_advice.gains(run)
  local rest = max(wall - model, 0)
  add_larger_chunks(gains, model, rest, run)
  lines[#lines + 1] = ("by a simulation, which gives %s for this run, and %s for the time between "
    .. "calls:"):format(seconds(model), seconds(rest))
  for i = 1, min(#gains, 6) do
    local predicted = gains[i].predicted + rest
    lines[#lines + 1] = ("  %-52s %9s  (%+.0f %%)"):format(gains[i].text, seconds(predicted),
      100 * (predicted / max(model + rest, 1e-9) - 1))
  end
end

---The text, without a newline at its end.
---@param source fzlua.RunSource
---@return string
function run_advice.text(source)
  local run, cached = run_advice.read(source)
  local recorded = ("recorded: %d results of earlier runs were used"):format(cached)
  if not run and cached > 0 then return "explain: no function was called; " .. recorded end
  if not run then return "explain: no function was called" end
  local wall, lines = max(run.ended - run.began, 1e-6), {}
  lines[1] = ("explain: %s, %.1f of %d places busy on average")
    :format(seconds(wall), run.busy / wall, run.jobs)
  if cached > 0 then lines[#lines + 1] = recorded end
  add_path(lines, run, wall)
  lines[#lines + 1] = "stages, the slowest first:"
  add_stages(lines, run, wall)
  lines[#lines + 1] = ("bytes: %s to workers, %s back"):format(bytes(run.sent),
    bytes(run.received))
  local waited = 0
  for _, s in ipairs(run.stages) do waited = waited + s.waited end
  lines[#lines + 1] = ("waiting: calls waited %s for a worker; workers had nothing to do for %s")
    :format(seconds(waited), seconds(max(wall * run.nworkers - run.busy, 0)))
  add_chunks(lines, run)
  add_gains(lines, run, wall)
  return table.concat(lines, "\n")
end

return run_advice
