--- run_calls.lua - the calls of a run, and what each of them waited for: other calls, the script,
--- the start of a worker. The simulation replays them.

local worker_times = require "fzlua.worker_times"

local run_calls = {}

local max, min = math.max, math.min

-- A longer wait of a worker between two calls counts only from the time when the next chunk was
-- queued, because before that there was nothing to send.
local GAP_MAX <const> = 1e-3

-- The maximum number of calls in the simulation, and of calls that are searched for a free slot.
local CALLS_MAX <const> = 100000
local SEARCH_MAX <const> = 1000

-- The kernel counts the load of the machine in hundredths of seconds, so that shorter times say
-- nothing about it.
local LOAD_LEAST <const> = 0.1

---The nodes of a graph of the engine.
---@param plan fzlua.RunPlan
---@return table[] stage, name, `before`: the numbers of the nodes that it needs
function run_calls.nodes(plan)
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
    local nodes = plan.nodes or run_calls.nodes(plan)
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

-- Note the worker of a call: its first call, and what its start and its init took.
local function note_worker(stage, call)
  local worker = stage.known[call.worker]
  if not worker then
    worker = { first = call, started = call.e.started, ended = call.e.ended }
    stage.known[call.worker] = worker
    stage.list[#stage.list + 1] = worker
  end
  if call.e.started < worker.started then worker.first, worker.started = call, call.e.started end
  worker.ended = max(worker.ended, call.e.ended)
  worker.launch = worker.launch or call.e.launch
  worker.init = worker.init or call.e.init
end

local function new_stage(run, name)
  local number = #run.stages + 1
  run.number[name] = number
  run.stages[number] = { name = name, busy = 0, cpu = 0, calls = 0, waited = 0, records = 0,
    gaps = 0, prepared = 0, workers = {}, known = {}, list = {} }
  return number
end

local function add_call(run, source, e)
  local name = stage_of(source, e)
  local number = run.number[name] or new_stage(run, name)
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
  local call = { e = e, took = took, group = number, before = {}, n = e.n, worker = key,
    key = key_of(e.stage, e.name) }
  run.calls[#run.calls + 1] = call
  note_worker(stage, call)
  if e.node then run.is_remote = true end
end

-- The part of a processor that each call needs. Elements of a map that were sent together share
-- one measurement, so that a map has one value. Calls that were not measured, such as those in the
-- script's process, may need a whole one.
local function set_processors(run)
  for _, call in ipairs(run.calls) do
    local stage, e = run.stages[call.group], call.e
    if stage.cpu == 0 then
      call.cpu = 1
    elseif stage.is_map or not e.cpu then
      call.cpu = stage.busy > 0 and min(stage.cpu / stage.busy, 1) or 0
    else
      call.cpu = call.took > 0 and min(e.cpu / call.took, 1) or 0
    end
  end
end

-- Read the calls and the stages of a run from its records.
local function read(source)
  local run = { calls = {}, stages = {}, number = {}, began = math.huge, ended = 0, busy = 0,
    sent = 0, received = 0, workers = {}, cached = 0, nleft = 0 }
  run.nleft = max(#source.records - CALLS_MAX, 0)
  for i = 1, min(#source.records, CALLS_MAX) do
    local e = source.records[i]
    if e.event == "cached" then run.cached = run.cached + e.n end
    if e.pid then add_call(run, source, e) end
  end
  sort_by_ends(run.calls)
  set_processors(run)
  add_gaps(run)
  for _, stage in ipairs(run.stages) do stage.n = worker_times.most_at_once(stage.workers) end
  run.nworkers = worker_times.most_at_once(run.workers)
  return run
end

-- The number of the last call that had ended at a time; 0: none.
local function last_ended(run, time)
  local low, high = 0, #run.calls
  while low < high do
    local middle = (low + high + 1) // 2
    if run.calls[middle].e.ended <= time then low = middle else high = middle - 1 end
  end
  return low
end

local function queued(call) return call.e.queued or call.e.started end

-- The call that ended last before this call was queued, because the script may have waited for it;
-- nil if no call had ended.
local function previous(run, call)
  local found = last_ended(run, queued(call))
  return found > 0 and found or nil
end

-- Add a call to its list: a map queues all elements of its list together. Another list of the same
-- map begins with its first element, or with an element that was queued after all others ended.
local function note_element(lists, call, i)
  local e, list = call.e, lists[call.key]
  if not list or (e.attempt or 1) == 1
    and (e.index == 1 and list.has_first or queued(call) >= list.ended) then
    list = { ended = 0 }
    lists[call.key] = list
    lists[#lists + 1] = list
  end
  list[#list + 1] = i
  list.ended, list.has_first = max(list.ended, e.ended), list.has_first or e.index == 1
end

-- Connect the elements of lists: the first one that was queued waits for the script, and the others
-- are queued with it.
local function connect_lists(run, lists)
  for _, list in ipairs(lists) do
    local first = list[1]
    for _, i in ipairs(list) do
      if queued(run.calls[i]) < queued(run.calls[first]) then first = i end
    end
    local before = previous(run, run.calls[first])
    for _, i in ipairs(list) do
      run.calls[i].before = { before }
      run.calls[i].with = i ~= first and first or nil
    end
  end
end

-- The stream of a call: the items of a stream of a chain, or of an imap or a fold, which are under
-- way in a window. The first calls of an item need no result of another call. A first call of item
-- i waits until item i - window is done.
local function stream_of(streams, window, call, item)
  local stream = streams[window]
  -- An earlier stream of another source has ended.
  if not stream or item == 1 and stream.last[1] and #stream.first_calls > 0
    and stream.seen[call.key] and (call.e.attempt or 1) == 1 then
    stream = { window = window, first_calls = {}, last = {}, seen = {} }
    streams[window] = stream
    streams[#streams + 1] = stream
  end
  return stream
end

local function note_item(streams, call, window, i)
  local item = call.e.item or call.e.index
  local stream = stream_of(streams, window, call, item)
  for number = item, item + (call.e.index and call.n or 1) - 1 do stream.last[number] = i end
  if item == 1 then stream.seen[call.key] = true end
  if #call.before == 0 then stream.first_calls[#stream.first_calls + 1] = i end
end

-- The window of a call of a stream, an imap or a fold.
local function window_of(source, call, node)
  local plan = node and node.plan_of
  if plan and plan.window and call.e.item then
    plan.stream_window = plan.stream_window
      or { limit = plan.window, is_fixed = plan.is_window_fixed }
    return plan.stream_window
  end
  return call.e.index and not node and source.windows and source.windows[call.e.name] or nil
end

-- Connect each call with the calls whose results it needs. These are, for each input, the last call
-- of its maker for the same item. The last element of a map stands for all its elements. A retry
-- needs the previous attempt instead.
local function connect(run, source, nodes)
  local last, lists, streams = {}, {}, {}
  for i, call in ipairs(run.calls) do
    local node, item = nodes[call.key], call.e.item or 0
    local own = call.key .. "\0" .. item
    call.window = window_of(source, call, node)
    if (call.e.attempt or 1) > 1 and not call.e.index and last[own] then
      call.before[1] = last[own]
    end
    for _, number in ipairs(#call.before == 0 and node and node.before or {}) do
      local maker = node.plan_of.nodes[number]
      call.before[#call.before + 1] = last[key_of(maker.stage, maker.name) .. "\0" .. item]
    end
    if call.window then note_item(streams, call, call.window, i) end
    if #call.before == 0 then
      call.by_script = true
      if call.e.index and not call.window then
        note_element(lists, call, i)
      else
        call.before[1] = previous(run, call)
      end
    end
    last[own] = i -- replaces an earlier call: calls are in the order of their ends
  end
  connect_lists(run, lists)
  run.streams = streams
end

-- When the last call that this one needs had ended; nil if it needs none.
local function triggered(run, call)
  local time
  for _, before in ipairs(call.before) do
    time = max(time or 0, run.calls[before].e.ended)
  end
  return time
end

-- How long it took to queue each call once what it needs was done. A call that the script makes
-- waits for the script, which queues one after the other; other calls wait for the engine.
local function add_waits(run)
  local order, last = {}, nil
  for i in ipairs(run.calls) do order[i] = i end
  local calls = run.calls
  table.sort(order, function(a, b)
    local x, y = queued(calls[a]), queued(calls[b])
    return x < y or x == y and a < b
  end)
  run.script = 0
  for _, i in ipairs(order) do
    local call = calls[i]
    local time, at = triggered(run, call), call.e.queued
    if at and time and not call.by_script then
      call.pause = max(at - time, 0)
    elseif at and call.by_script and not call.with then
      call.script = last and max(at - max(time or 0, last), 0)
      run.script = run.script + (call.script or 0)
      last = at
    end
  end
end

-- What the script's process takes for each result of a map, in proportion to its bytes. It is the
-- processor time that is neither for work before calls nor for starts of workers.
local function add_results(run, source)
  local total = max((source.run_cpu or 0) - run.script - run.launch, 0)
  local sum = 0
  for _, call in ipairs(run.calls) do
    if call.e.index then sum = sum + (call.e.received or 0) end
  end
  run.results = sum > 0 and total or 0
  for _, call in ipairs(run.calls) do
    call.result = call.e.index and sum > 0 and total * (call.e.received or 0) / sum or nil
  end
end

-- How long the first call of a worker waited for it, although a slot was free. The slot was free
-- from the last end of a call on, if all were taken until then.
local function waited_for(run, call)
  local e = call.e
  local free, last = e.queued or e.started, last_ended(run, e.started)
  local latest, nrunning = last > 0 and run.calls[last].e.ended or free, 1
  if latest <= free then return max(e.started - free, 0) end
  for i = last + 1, min(#run.calls, last + SEARCH_MAX) do
    if run.calls[i].e.started < latest then nrunning = nrunning + 1 end
  end
  return e.started - (nrunning >= run.jobs and latest or free)
end

local function mean(sum, n) return n > 0 and sum / n or 0 end

-- Workers of a stage that live at the same time. A map forks its own workers, and workers are
-- replaced, so that a stage may have several such sets in a run.
local function worker_sets(stage)
  local sets, ended = {}, 0
  table.sort(stage.list, function(a, b) return a.started < b.started end)
  for _, worker in ipairs(stage.list) do
    if #sets == 0 or worker.started >= ended then sets[#sets + 1] = { first = worker } end
    worker.set = sets[#sets]
    ended = max(ended, worker.ended)
  end
  return sets
end

-- What the starts of the workers of a stage took, as far as it is known.
local function add_stage_starts(run, stage)
  local launch, nlaunch, init, ninit = 0, 0, 0, 0
  for _, worker in ipairs(stage.list) do
    if worker.launch then launch, nlaunch = launch + worker.launch, nlaunch + 1 end
    if worker.init then
      init, ninit = init + worker.init, ninit + 1
      worker.first.took = max(worker.first.took - worker.init, 0)
    end
  end
  stage.launch, stage.init = mean(launch, nlaunch), mean(init, ninit)
  run.launch, run.init = run.launch + launch, run.init + init
  if nlaunch == 0 and ninit == 0 then return end
  stage.sets = worker_sets(stage)
  for _, set in ipairs(stage.sets) do
    local waited = waited_for(run, set.first.first)
    run.starting = run.starting + waited
    set.launch, set.init = stage.launch, stage.init
    set.first_launch = min(set.first.launch or 0, waited)
    set.first_boot = waited - set.first_launch
    -- The start of a worker that was not waited for is unknown.
    if waited > stage.launch then
      set.boot = set.first_boot
      run.boot = min(run.boot or math.huge, set.boot)
    end
  end
end

-- Add what the starts of workers took, for the simulation of other numbers of workers.
local function add_starts(run)
  run.launch, run.starting, run.init = 0, 0, 0
  for _, stage in ipairs(run.stages) do add_stage_starts(run, stage) end
  for _, stage in ipairs(run.stages) do
    for _, set in ipairs(stage.sets or {}) do set.boot = set.boot or run.boot or 0 end
  end
  for _, call in ipairs(run.calls) do
    local stage = run.stages[call.group]
    call.workers = stage.sets and stage.known[call.worker].set
  end
end

-- The script's mean time for an item while a window fills. Memory is touched first then, and so it
-- is for the items that fill a larger window.
local function filling(run, stream)
  local sum, n = 0, 0
  for _, i in ipairs(stream.first_calls) do
    local call = run.calls[i]
    local item = call.e.item or call.e.index
    if item > 1 and item <= stream.window.limit and call.script then
      sum, n = sum + call.script, n + 1
    end
  end
  return n > 0 and sum / n or 0
end

---Connect the first calls of the items as if all windows were `factor` times as large.
---@param run table
---@param factor number
function run_calls.widen(run, factor)
  for _, stream in ipairs(run.streams) do
    local window = stream.window
    local limit = window.limit * (window.is_fixed and 1 or factor)
    local first = run.calls[stream.first_calls[1]]
    stream.filling = stream.filling or filling(run, stream)
    first.narrow = first.narrow or first.before
    for _, i in ipairs(stream.first_calls) do
      local call = run.calls[i]
      local item = call.e.item or call.e.index
      local last = stream.last[item - limit]
      call.narrow, call.worked = call.narrow or call.before, call.worked or call.script or 0
      call.before = item > window.limit and first.narrow or call.narrow
      call.script = item > window.limit and item <= limit and max(call.worked, stream.filling)
        or call.worked
      -- `last` may be a call of another stream of the same chain that ended later.
      if last and run.calls[last].e.ended <= call.e.started then call.before = { last } end
    end
  end
end

---The time in which no call ran.
---@param run table
---@return number seconds
function run_calls.idle(run)
  local from, idle = run.ended, 0
  for i = #run.calls, 1, -1 do -- calls are in the order of their ends
    local e = run.calls[i].e
    idle = idle + max(from - e.ended, 0)
    from = min(from, e.started)
  end
  return idle + max(from - run.began, 0)
end

---The critical path, backwards: the call that ended last, the call that it waited for, and so on.
---@param run table
---@return table[] calls
function run_calls.critical_path(run)
  local last, path = #run.calls, {}
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

-- The processors that other programs used on average; nil if the run was too short to know them.
local function others(run, source)
  local load, own = source.load, source.script_cpu or 0
  for _, stage in ipairs(run.stages) do own = own + stage.cpu end
  if load.seconds < LOAD_LEAST then return nil end
  return max(load.busy - own, 0) / load.seconds
end

-- Calls that computed got less of the processors because of other programs: alone, they need more.
local function undo_load(run)
  local factor = run.processors / max(run.processors - run.others, 0.1)
  for _, call in ipairs(run.calls) do call.cpu = min(call.cpu * factor, 1) end
end

---@param source fzlua.RunSource
---@return table|nil run; nil: there were no calls
---@return integer recorded results that were used
function run_calls.read(source)
  local run = read(source)
  if #run.calls == 0 then return nil, run.cached end
  run.jobs = max(source.jobs or 0, 1)
  if (source.jobs or 0) == 0 then run.jobs = run.nworkers end
  -- At most `jobs` workers run at a time. More workers were counted if workers were replaced.
  for _, stage in ipairs(run.stages) do stage.n = min(stage.n, run.jobs) end
  -- The number of processors of other machines is not known.
  run.processors = not run.is_remote and source.processors or nil
  connect(run, source, nodes_of(source.plans))
  add_waits(run)
  add_starts(run)
  add_results(run, source)
  local works = run.script + run.launch
  run.others = source.load and run.processors and others(run, source) or nil
  if run.others then undo_load(run) end
  run.script_cpu = works > 0 and min((source.script_cpu or works) / works, 1) or 0
  return run, run.cached
end

return run_calls
