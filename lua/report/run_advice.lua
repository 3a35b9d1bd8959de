--- run_advice.lua - what limited the speed of a run, as a text of one screen (--explain).

local run_calls = require "fzlua.run_calls"
local simulation = require "fzlua.simulation"

local run_advice = { read = run_calls.read, nodes = run_calls.nodes }

local max, min = math.max, math.min

-- The part of the time between calls that larger chunks do not save, because each item takes it.
local EACH_ITEM <const> = 0.1

-- Maximum number of functions on the critical path, and of predictions.
local PATH_MAX <const> = 6
local GAINS_MAX <const> = 6

-- A smaller change of the time of the run is not worth a line, or a sentence.
local LEAST_GAIN <const> = 0.01
local CLEAR_GAIN <const> = 0.1

-- The part of the processors that other programs may use without a word about it.
local OTHERS_MAX <const> = 0.15

local function seconds(s)
  if s >= 10 then return ("%.1f s"):format(s) end
  if s >= 1 then return ("%.2f s"):format(s) end
  if s >= 0.1 then return ("%.0f ms"):format(s * 1000) end
  if s >= 0.01 then return ("%.1f ms"):format(s * 1000) end
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

-- The name of a function as a user finds it: that of the stage is before it if there is one.
local function full_name(e)
  return shown(e.stage and ("%s.%s"):format(e.stage, e.name) or e.name)
end

-- A change of the time of the run, as signed percent.
local function percent(change)
  local number = 100 * change
  return ("%+.0f %%"):format(number > -0.5 and number < 0 and 0 or number)
end

local function plural(n, noun)
  return ("%d %s%s"):format(n, noun, n == 1 and "" or "s")
end

-- Simulate the calls with changed settings; returns the seconds from the first start to the last
-- end.
local function predict(run, change)
  local workers = {}
  for i, stage in ipairs(run.stages) do workers[i] = stage.n end
  local settings = { jobs = run.jobs, workers = workers, processors = run.processors,
    script_cpu = run.script_cpu }
  for name, value in pairs(change) do settings[name] = value end
  run_calls.widen(run, settings.jobs // run.jobs)
  local time = simulation.time(run.calls, settings)
  run_calls.widen(run, 1)
  return time
end

-- Predict `factor` times as many workers, on a number of processors.
local function predict_workers(run, factor, processors)
  local more = {}
  for i, stage in ipairs(run.stages) do more[i] = factor * stage.n end
  return predict(run, { jobs = factor * run.jobs, workers = more, processors = processors })
end

local function add_gain(list, model, predicted, what, text, ...)
  local gain = { gain = 1 - predicted / model, predicted = predicted, what = what,
    text = text:format(...) }
  list[#list + 1] = gain
  list[what] = list[what] or gain
end

---The gains of other settings, by the simulation.
---@param run table from run_calls.read()
---@return table[] a list of `text`, `predicted` in seconds, `gain` from 0 to 1, the best first;
---also by what was changed
---@return number the seconds that the simulation gives for the run as it was
function run_advice.gains(run)
  local model, list = predict(run, {}), {}
  for _, factor in ipairs { 2, 4 } do
    add_gain(list, model, predict_workers(run, factor, run.processors), "x" .. factor,
      "%d times the workers (-j %d)", factor, factor * run.jobs)
  end
  add_gain(list, model, predict(run, { workers = {} }), "unlimited",
    "as many workers for a stage as functions at once")
  for i, stage in ipairs(run.stages) do
    if i > 20 then break end
    add_gain(list, model, predict(run, { faster = { [i] = 2 } }), "faster", "%s twice as fast",
      shown(stage.name))
  end
  table.sort(list, function(a, b) return a.predicted < b.predicted end)
  return list, model
end

-- Whether larger chunks, or a map of lists, would save much of the time of a stage.
local function has_small_calls(stage)
  return stage.records >= 100 and stage.busy / stage.calls < 1e-3 and stage.gaps > stage.busy / 2
end

-- The functions of a list of calls with the time of all calls of each, the longest first.
local function sums_of(calls)
  local sums = {}
  for _, call in ipairs(calls) do
    local sum = sums[call.key]
    if not sum then
      sum = { e = call.e, took = 0, n = 0 }
      sums[call.key] = sum
      sums[#sums + 1] = sum
    end
    sum.took, sum.n = sum.took + call.e.ended - call.e.started, sum.n + 1
  end
  table.sort(sums, function(a, b) return a.took > b.took end)
  return sums
end

local function add_path(lines, facts)
  local names = {}
  for i = 1, min(#facts.path, PATH_MAX) do
    local sum = facts.path[i]
    names[i] = ("%s %s%s"):format(full_name(sum.e), seconds(sum.took),
      sum.n > 1 and (" in %d calls"):format(sum.n) or "")
  end
  lines[#lines + 1] = ("critical path: %s that wait for each other, %s of %s (%.0f %%): %s")
    :format(plural(facts.npath, "call"), seconds(facts.path_time), seconds(facts.wall),
      100 * facts.path_time / facts.wall, table.concat(names, ", "))
end

local function add_stages(lines, run, wall)
  -- Sort a copy, because calls refer to run.stages by number.
  local stages = table.move(run.stages, 1, #run.stages, 1, {})
  table.sort(stages, function(a, b) return a.busy / a.n > b.busy / b.n end)
  lines[#lines + 1] = "stages, the slowest first:"
  for i = 1, min(#stages, 5) do
    local s = stages[i]
    lines[#lines + 1] = ("  %-40s %7d %s %9s each  %2d %s %3.0f %% busy  cpu %3.0f %%")
      :format(shown(s.name), s.calls, s.calls == 1 and "call " or "calls",
        seconds(s.busy / s.calls), s.n, s.n == 1 and "worker " or "workers",
        min(100 * s.busy / s.n / wall, 100), s.busy > 0 and min(100 * s.cpu / s.busy, 100) or 0)
  end
  if #stages > 5 then
    lines[#lines + 1] = ("  and %s"):format(plural(#stages - 5, "other stage"))
  end
end

-- Add the time in which no function ran, and what is known about it.
local function add_waiting(lines, run, facts)
  local known = {}
  if run.starting > 0 then
    known[1] = ("starts of workers %s"):format(seconds(run.starting))
  end
  if run.script > 0 then
    known[#known + 1] = ("the script before calls %s"):format(seconds(run.script))
  end
  if run.results > LEAST_GAIN * facts.wall then
    known[#known + 1] = ("the script for results %s"):format(seconds(run.results))
  end
  lines[#lines + 1] = ("waiting: no function ran for %s%s; workers had nothing to do for %s")
    :format(seconds(facts.idle), #known > 0 and " (" .. table.concat(known, ", ") .. ")" or "",
      seconds(max(facts.wall * run.nworkers - run.busy, 0)))
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
      gains[#gains + 1] = { predicted = max(model - saved, -rest), what = "chunks",
        text = ("%s in chunks 10 times as large"):format(shown(s.name)) }
    end
  end
  table.sort(gains, function(a, b) return a.predicted < b.predicted end)
end

-- The predicted time of the run with the time that the simulation does not explain. If the
-- simulation takes longer than the run did, so does each prediction.
local function whole(facts, predicted)
  return predicted * min(facts.wall / facts.model, 1) + facts.rest
end

-- Whether a prediction says something. The one for twice the workers does, because users ask that
-- first. The one for more workers does if they gain more than these.
local function is_worth_a_line(facts, gain, change)
  if gain.what == "x4" and facts.gains.x2.gain - gain.gain > -LEAST_GAIN then return false end
  return change <= -LEAST_GAIN or gain.what == "x2"
end

-- Add the predictions for other settings. What the simulation does not explain is added unchanged.
local function add_gains(lines, run, facts)
  lines[#lines + 1] = ("by a simulation, which explains %s of this run; the other %s stay as they "
    .. "are:"):format(seconds(min(facts.model, facts.wall)), seconds(facts.rest))
  local nshown = 0
  for _, gain in ipairs(facts.gains) do
    local predicted = whole(facts, gain.predicted)
    local change = predicted / facts.wall - 1
    if nshown < GAINS_MAX and is_worth_a_line(facts, gain, change) then
      nshown = nshown + 1
      lines[#lines + 1] = ("  %-52s %9s  (%s)"):format(gain.text, seconds(predicted),
        percent(change))
    end
  end
  if run.processors and 2 * run.jobs > run.processors then
    lines[#lines + 1] = ("  (on this machine, which has %s)"):format(
      plural(run.processors, "processor"))
  end
end

-- The stage that is busiest for the workers that it may have.
local function narrowest(run)
  local found
  for _, stage in ipairs(run.stages) do
    if not found or stage.busy / stage.n > found.busy / found.n then found = stage end
  end
  return found
end

local function with_gain(facts, what, text)
  local predicted = whole(facts, facts.gains[what].predicted)
  return ("%s %s (%s)"):format(text, seconds(predicted), percent(predicted / facts.wall - 1))
end

-- The share of the run's time that another setting would save.
local function saved(facts, what)
  return 1 - whole(facts, facts.gains[what].predicted) / facts.wall
end

-- What bounds a run, the first that holds: a test, and a sentence about it.
local BOUNDS <const> = {
  function(run, facts)
    for _, stage in ipairs(run.stages) do
      if has_small_calls(stage) and stage.gaps / stage.n > facts.wall / 4 then
        return ("short calls: a call of %s takes %s, and its worker waits %s for the next one")
          :format(shown(stage.name), micros(stage.busy / stage.calls),
            micros(stage.gaps / stage.records))
      end
    end
  end,
  function(run, facts)
    if facts.idle / facts.wall < max(saved(facts, "x2"), 0.4) then return nil end
    local why = run.starting >= facts.idle / 2 and "the starts of workers"
      or run.script >= facts.idle / 2 and "the script itself"
      or "what is between the calls"
    return ("%s: no function ran for %s (%.0f %% of the time)"):format(why, seconds(facts.idle),
      100 * facts.idle / facts.wall)
  end,
  function(run, facts)
    if run.results < facts.wall / 2 then return nil end
    return ("the script, which took %s for results: functions that return less would help")
      :format(seconds(run.results))
  end,
  function(run)
    if run.init < run.busy / 2 then return nil end
    local found
    for _, stage in ipairs(run.stages) do
      if not found or stage.init > found.init then found = stage end
    end
    return ("init of stage %s, which takes %s in each worker: more workers do not make it shorter")
      :format(shown(found.name), seconds(found.init))
  end,
  function(run, facts)
    if saved(facts, "x2") < CLEAR_GAIN then return nil end
    return with_gain(facts, "x2",
      ("the number of functions at once: with -j %d it would take about"):format(2 * run.jobs))
  end,
  function(run, facts)
    if saved(facts, "unlimited") < CLEAR_GAIN then return nil end
    local stage = narrowest(run)
    return with_gain(facts, "unlimited", ("stage %s, which has %s: with as many as functions run "
      .. "at once it would take about"):format(shown(stage.name), plural(stage.n, "worker")))
  end,
  function(run, facts)
    if not run.processors or run.busy / facts.wall < run.processors * 0.6
      or 1 - predict_workers(run, 2, 2 * run.processors) / facts.model < CLEAR_GAIN then
      return nil
    end
    return ("the processors of this machine (%d): functions that compute use all of them, so that "
      .. "more workers gain little"):format(run.processors)
  end,
  function(_, facts)
    if facts.path_time / facts.wall < 0.5 then return nil end
    local sum = facts.path[1]
    if sum.took > 0.8 * facts.path_time and sum.n == 1 then
      return ("one call of %s, which took %s: more workers gain little"):format(
        full_name(sum.e), seconds(sum.took))
    end
    return ("calls that wait for each other, so that more workers gain little; the most of their "
      .. "time, %s, is that of %s"):format(seconds(sum.took), full_name(sum.e))
  end,
  function(run)
    local stage = narrowest(run)
    return ("no single thing; stage %s took most"):format(shown(stage.name))
  end,
}

local function add_bound(lines, run, facts)
  for _, bound in ipairs(BOUNDS) do
    local text = bound(run, facts)
    if text then
      lines[#lines + 1] = "bound by " .. text
      return
    end
  end
end

local function facts_of(run)
  local path = run_calls.critical_path(run)
  local facts = { wall = max(run.ended - run.began, 1e-6), idle = run_calls.idle(run),
    path = sums_of(path), npath = #path, path_time = 0 }
  for _, sum in ipairs(facts.path) do facts.path_time = facts.path_time + sum.took end
  facts.gains, facts.model = run_advice.gains(run)
  facts.model = max(facts.model, 1e-9)
  facts.rest = max(facts.wall - facts.model, 0)
  add_larger_chunks(facts.gains, facts.model, facts.rest, run)
  return facts
end

---The text, without a newline at its end.
---@param source fzlua.RunSource
---@return string
function run_advice.text(source)
  local run, cached = run_calls.read(source)
  local recorded = ("recorded: %d results of earlier runs were used"):format(cached)
  if not run and cached > 0 then return "explain: no function was called; " .. recorded end
  if not run then return "explain: no function was called" end
  local facts, lines = facts_of(run), {}
  lines[1] = ("explain: %s with -j %d, %.1f functions at once on average")
    :format(seconds(facts.wall), run.jobs, run.busy / facts.wall)
  add_bound(lines, run, facts)
  if run.others and run.others > OTHERS_MAX * run.processors then
    lines[#lines + 1] = ("other programs used %.1f of the %d processors meanwhile: predictions are "
      .. "less certain"):format(run.others, run.processors)
  end
  if cached > 0 then lines[#lines + 1] = recorded end
  if run.nleft > 0 then
    lines[#lines + 1] = ("left out: the last %s"):format(plural(run.nleft, "record"))
  end
  add_stages(lines, run, facts.wall)
  if facts.npath > 1 then add_path(lines, facts) end
  add_waiting(lines, run, facts)
  lines[#lines + 1] = ("bytes: %s to workers, %s back"):format(bytes(run.sent),
    bytes(run.received))
  add_chunks(lines, run)
  add_gains(lines, run, facts)
  return table.concat(lines, "\n")
end

return run_advice
