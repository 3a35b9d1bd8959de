--- run_data.lua - computes data about a run from the records of a trace: sums, spans, graphs,
--- failures.
--
-- The result is plain data for the page (run_report.lua) and for run_advice.lua. Its size is
-- bounded, whatever the number of records: surplus data is merged or left out, and a note says so.
-- Times are whole microseconds since the start of the run.

local worker_times = require "fzlua.worker_times"

local run_data = {}

-- The maximum number of entries of each kind on the page.
local FUNCTIONS_MAX <const> = 600
local SPANS_MAX <const> = 4000
local WORKERS_MAX <const> = 200
local BOXES_MAX <const> = 120
local GRAPHS_MAX <const> = 8
local SLOWEST_MAX <const> = 50
local FAILURES_MAX <const> = 100
local MESSAGE_MAX <const> = 3000
local GROUPS_MAX <const> = 60
local CHANGES_MAX <const> = 400
local NAME_MAX <const> = 160

local floor, max, min = math.floor, math.max, math.min

local function micros(seconds) return floor(seconds * 1e6 + 0.5) end

-- A string that is valid UTF-8 and not too long.
local function clean(s, most)
  if #s <= most and utf8.len(s) then return s end
  local is_long, parts, at = #s > most, {}, 1
  s = s:sub(1, most + 4) -- a few bytes more, because the last character may be cut
  while true do
    local _, bad = utf8.len(s, at)
    if not bad then break end
    parts[#parts + 1] = s:sub(at, bad - 1) .. "\u{FFFD}"
    at = bad + 1
  end
  parts[#parts + 1] = s:sub(at)
  s = table.concat(parts)
  if #s <= most and not is_long then return s end
  local last = utf8.offset(s, 0, min(most, #s)) -- offset of the character that crosses the limit
  return s:sub(1, last - 1) .. "…"
end

-- Fields that are 0 for most functions are not stored, because a graph may have many functions.
local Function = { __index = {
  retries = 0, failed = 0, cancelled = 0, cached = 0, sent = 0, received = 0, peak = 0,
  counts = false,
} }

-- The function of an event, made for its first event. It has the script's names, which the page
-- shows cleaned.
local function function_of(data, e)
  local stage, name = e.stage or "", e.name or "?"
  local of_stage = data.by_name[stage]
  if not of_stage then
    of_stage = {}
    data.by_name[stage] = of_stage
  end
  local f = of_stage[name]
  if f then return f end
  f = setmetatable({ stage = e.stage, name = name, calls = 0, total = 0, max = 0, cpu = 0 },
    Function)
  of_stage[name] = f
  data.functions[#data.functions + 1] = f
  return f
end

-- Set the names of a function in a row of the page.
local function set_names(row, f)
  row.stage, row.name = f.stage and clean(f.stage, NAME_MAX), clean(f.name, NAME_MAX)
  return row
end

-- The number of the group of an event in the timeline and the histograms. A stage, a call of a map
-- or a pool, and a dag are groups.
local function group_of(data, e)
  local name = e.stage or (data.call_names[e.name] and e.name) or "dag"
  local group = data.group_of[name]
  if group then return group end
  if #data.groups == GROUPS_MAX then
    name, group = "others", data.group_of.others
  end
  if not group then
    group = #data.groups + 1
    data.groups[group] = { name = clean(name, NAME_MAX), counts = {}, calls = 0, busy = 0,
      times_of = {} }
    data.group_of[name] = group
  end
  return group
end

local function worker_of(data, e)
  local key = e.node and ("%s on %s"):format(e.pid, e.node) or e.pid
  local worker = data.by_worker[key]
  if not worker then
    worker = { name = clean(tostring(key), NAME_MAX), spans = {}, busy = 0 }
    data.by_worker[key] = worker
    data.workers[#data.workers + 1] = worker
    if e.node then data.nodes[e.node] = true end
  end
  return worker
end

-- Add `n` calls that took as long each. The times of a function are counted from its second record
-- on, because most functions of a large graph have only one.
local function add_time(f, took, n)
  if f.calls > 0 then
    f.counts = f.counts or { [f.max] = f.calls }
    f.counts[took] = (f.counts[took] or 0) + n
  end
  f.calls, f.max = f.calls + n, max(f.max, took)
end

local COUNTS <const> = { failed = "failed", retry = "retries", cancelled = "cancelled",
  cached = "cached" }

-- Whether the event is that of a whole map, whose elements have records of their own.
local function is_whole(e)
  return e.event == "done" and not e.pid
end

local function is_failure(e) return e.event == "failed" or e.event == "retry" end

local function note_failure(data, e, f, worker)
  data.nfailures = data.nfailures + 1
  if #data.failures == FAILURES_MAX then return end
  data.failures[#data.failures + 1] = set_names({
    event = e.event, error = e.error or "error", item = e.item,
    index = e.index, attempt = e.attempt, worker = worker and worker.name,
    message = clean(e.message or "", MESSAGE_MAX),
  }, f)
end

local function slower(a, b) return a.took > b.took end

-- Add a call, and keep only the slowest ones.
local function note_slow(data, e, f, call)
  local slowest = data.slowest
  call.item, call.index, call.attempt = e.item, e.index, e.attempt
  slowest[#slowest + 1] = set_names(call, f)
  if #slowest < 4 * SLOWEST_MAX then return end
  table.sort(slowest, slower)
  for i = #slowest, SLOWEST_MAX + 1, -1 do slowest[i] = nil end
  data.slow_from = slowest[SLOWEST_MAX].took
end

local function note_group(group, worker, n, at, length)
  group.calls, group.busy = group.calls + n, group.busy + length
  if worker_times.note(group.times_of, worker, at, at + length) then
    worker.group, worker.mixed = worker.group or group, worker.group ~= nil
  end
end

local function add_usage(sums, f, e)
  f.cpu, sums.cpu = f.cpu + e.cpu, sums.cpu + e.cpu
  if e.sent > 0 then f.sent, sums.sent = f.sent + e.sent, sums.sent + e.sent end
  if e.received > 0 then
    f.received, sums.received = f.received + e.received, sums.received + e.received
  end
  if e.peak > f.peak then f.peak, sums.peak = e.peak, max(e.peak, sums.peak) end
end

-- Add the attempt with number `i`.
local function add_attempt(data, i, e, f)
  local n, length, worker = e.n, e.length, worker_of(data, e)
  f.group = f.group or group_of(data, e)
  local took, group = length // n, data.groups[f.group]
  local sums, spans, counts = data.summary, worker.spans, group.counts
  add_time(f, took, n)
  f.total = f.total + length
  if f.total > data.most.total then data.most = f end
  add_usage(sums, f, e)
  counts[took] = (counts[took] or 0) + n
  note_group(group, worker, n, e.at, length)
  worker.busy = worker.busy + length
  spans[#spans + 1] = { e.at, length, f.group - 1, is_failure(e) and 1 or 0, n }
  sums.calls, sums.busy = sums.calls + n, sums.busy + length
  if took > data.slow_from or #data.slowest < SLOWEST_MAX then
    note_slow(data, data.records[i], f, { took = took, at = e.at, worker = worker.name })
  end
  return worker
end

-- Add the event with number `i`.
local function add_event(data, i, e)
  local f, worker = function_of(data, e), nil
  if is_whole(e) then return end
  local counted = COUNTS[e.event]
  if counted then
    f[counted] = f[counted] + e.n
    data.summary[counted] = data.summary[counted] + e.n
  end
  if e.pid then worker = add_attempt(data, i, e, f) end
  if is_failure(e) then note_failure(data, data.records[i], f, worker) end
end

-- Quantiles: the share `parts[i]` of the calls has taken at most the i-th time. `counts` has the
-- number of calls by time.
local function quantiles(counts, parts)
  local times, sum, found = {}, 0, {}
  for took, n in pairs(counts) do
    times[#times + 1] = took
    sum = sum + n
  end
  table.sort(times)
  local at, seen = 0, 0
  for i, part in ipairs(parts) do
    while at < #times and (at == 0 or seen < part * sum) do
      at = at + 1
      seen = seen + counts[times[at]]
    end
    found[i] = times[at] or 0
  end
  return table.unpack(found)
end

-- The bin of a duration in the histogram: bin n begins at 2^n microseconds.
local function bin_of(took)
  local bin = 0
  while took >= 2 and bin < 40 do took, bin = took // 2, bin + 1 end
  return bin
end

local function histogram(group, number)
  local counts, first, last = {}, math.huge, 0
  for took, n in pairs(group.counts) do
    local bin = bin_of(took)
    counts[bin] = (counts[bin] or 0) + n
    first, last = min(first, bin), max(last, bin)
  end
  local list = {}
  for bin = first, last do list[#list + 1] = counts[bin] or 0 end
  local median, p95 = quantiles(group.counts, { 0.5, 0.95 })
  return { group = number - 1, first = first, counts = list, median = median, p95 = p95 }
end

-- Merge spans of a worker that are closer than `gap` and of one kind. `spans` is sorted by starts.
local function merge(spans, gap)
  local merged, last = {}, nil
  for _, span in ipairs(spans) do
    local near = last and last[3] == span[3] and last[4] == span[4]
      and span[1] - (last[1] + last[2]) < gap
    if near and (last[2] < gap or span[2] < gap) then
      last[2] = max(last[2], span[1] + span[2] - last[1])
      last[5] = last[5] + span[5]
    else
      last = { span[1], span[2], span[3], span[4], span[5] }
      merged[#merged + 1] = last
    end
  end
  return merged
end

local function starts_earlier(a, b) return a[1] < b[1] end

-- Sort the spans of a worker by their starts. Its calls mostly follow each other already.
local function sort_spans(spans)
  for i = 2, #spans do
    if spans[i][1] < spans[i - 1][1] then
      table.sort(spans, starts_earlier)
      return
    end
  end
end

-- The spans of the workers, merged with the smallest gap that leaves few enough of them.
local function merge_all(workers, wall)
  local gap, total, longest = 0, 0, 0
  for _, worker in ipairs(workers) do
    sort_spans(worker.spans)
    total, longest = total + #worker.spans, max(longest, #worker.spans)
  end
  local spans = {}
  while total > SPANS_MAX do
    gap, total = gap == 0 and max(wall // SPANS_MAX, 1) or 2 * gap, 0
    for i, worker in ipairs(workers) do
      spans[i] = merge(spans[i] or worker.spans, gap)
      total = total + #spans[i]
    end
    if gap > 4 * wall then break end -- the spans alternate between groups, and cannot be merged
  end
  return spans, gap
end

-- The label of a worker. If the worker worked for one stage only, the label begins with the name of
-- the stage.
local function label_of(worker)
  if worker.mixed or worker.group.name == "dag" then return worker.name end
  return worker.group.name .. " " .. worker.name
end

local function cut_workers(data)
  local note = {}
  table.sort(data.workers, function(a, b) return a.spans[1][1] < b.spans[1][1] end)
  if #data.workers > WORKERS_MAX then
    note[1] = ("The first %d of %d workers."):format(WORKERS_MAX, #data.workers)
  end
  local shown = table.move(data.workers, 1, min(#data.workers, WORKERS_MAX), 1, {})
  local spans, gap = merge_all(shown, data.summary.wall)
  if gap > 0 then
    note[#note + 1] = ("Calls of one stage less than %d µs apart are drawn as one."):format(gap)
  end
  local list = {}
  for i, worker in ipairs(shown) do
    list[i] = { name = label_of(worker), spans = spans[i] or worker.spans }
    if #list[i].spans > SPANS_MAX then
      list[i].spans = table.move(list[i].spans, 1, SPANS_MAX, 1, {})
    end
  end
  return list, table.concat(note, " ")
end

local PUBLIC <const> = { "calls", "total", "max", "cpu", "retries", "failed", "sent", "received",
  "peak" }

local function more_time(a, b) return a.total > b.total end

-- The functions that took most time, in this order. Whole numbers sort faster than functions, so
-- that the least time of those that are shown is found first.
local function longest(functions)
  if #functions <= FUNCTIONS_MAX then return table.move(functions, 1, #functions, 1, {}) end
  local totals, list, rest = {}, {}, {}
  for i, f in ipairs(functions) do totals[i] = f.total end
  table.sort(totals)
  local least = totals[#totals - FUNCTIONS_MAX + 1]
  for _, f in ipairs(functions) do
    if f.total > least then
      list[#list + 1] = f
    elseif f.total == least and #rest < FUNCTIONS_MAX then
      rest[#rest + 1] = f
    end
  end
  return table.move(rest, 1, FUNCTIONS_MAX - #list, #list + 1, list)
end

local function cut_functions(data)
  local list = longest(data.functions)
  table.sort(list, more_time)
  for i, f in ipairs(list) do
    local row = { mean = f.calls > 0 and f.total // f.calls or 0,
      p95 = f.counts and quantiles(f.counts, { 0.95 }) or f.max }
    for _, field in ipairs(PUBLIC) do row[field] = f[field] end
    list[i] = set_names(row, f)
  end
  local note = ""
  if #data.functions > FUNCTIONS_MAX then
    note = ("The %d functions that took most time, of %d."):format(FUNCTIONS_MAX, #data.functions)
  end
  return list, note
end

local RANKS <const> = { "none", "cached", "done", "retried", "cancelled", "failed" }
local RANK_OF <const> = {}
for rank, state in ipairs(RANKS) do RANK_OF[state] = rank end

local function state_of(f)
  return f.failed > 0 and "failed" or f.retries > 0 and "retried" or f.calls > 0 and "done"
    or f.cancelled > 0 and "cancelled" or f.cached > 0 and "cached" or "none"
end

-- The depth behind the nodes `before`; nil if the depth of one of them is unknown.
local function depth_behind(before, depth)
  local most = 0
  for k = 1, #before do
    local d = depth[before[k]]
    if not d then return nil end
    if d > most then most = d end
  end
  return most + 1
end

-- The number of steps that lead to each node of a dag; its nodes are in the order of registration.
local function depths(nodes)
  local depth = {}
  local function of(i)
    local stack = { i }
    while #stack > 0 do -- no recursion, because long chains would overflow the stack
      local at = stack[#stack]
      depth[at] = depth_behind(nodes[at].before, depth)
      if depth[at] then
        stack[#stack] = nil
      else
        for _, before in ipairs(nodes[at].before) do
          if not depth[before] then stack[#stack + 1] = before end
        end
      end
    end
  end
  for i = 1, #nodes do
    depth[i] = depth[i] or depth_behind(nodes[i].before, depth)
    if not depth[i] then of(i) end
  end
  return depth
end

-- Add the function of a node to the box of the node, which may stand for many nodes.
local function add_to_box(box, f)
  box.count = box.count + 1
  if not f then return end
  box.calls, box.total = box.calls + f.calls, box.total + f.total
  local state = state_of(f)
  if state ~= box.state and RANK_OF[state] > RANK_OF[box.state] then box.state = state end
end

-- The box of each node: its own, or that of its column.
local function boxes_of(nodes, column, whole)
  local box_of, most = {}, 0
  for i in ipairs(nodes) do most = max(most, column[i]) end
  for i in ipairs(nodes) do
    box_of[i] = whole and (column[i] - 1) * min(most, BOXES_MAX) // most + 1 or i
  end
  return box_of
end

local function picture(data, plan)
  local nodes, column = plan.nodes, {}
  if plan.staged then
    for i, node in ipairs(nodes) do column[i] = node.layer end
  else
    column = depths(nodes)
  end
  local whole = #nodes > BOXES_MAX
  local box_of = boxes_of(nodes, column, whole)
  local boxes, number, edges, seen = {}, {}, {}, {}
  for i, node in ipairs(nodes) do
    local box = boxes[number[box_of[i]]]
    if not box then
      local name = node.name
      if whole then name = plan.staged and node.stage or ("step %d"):format(column[i]) end
      box = { stage = not whole and node.stage and clean(node.stage, NAME_MAX) or nil,
        name = clean(name, NAME_MAX),
        column = (whole and box_of[i] or column[i]) - 1, state = "none", count = 0, calls = 0,
        total = 0 }
      boxes[#boxes + 1] = box
      number[box_of[i]] = #boxes
    end
    local of_stage = data.by_name[node.stage or ""]
    add_to_box(box, of_stage and of_stage[node.name])
  end
  for i = 1, #nodes do
    local to, before = number[box_of[i]] - 1, nodes[i].before
    for k = 1, #before do
      local from = number[box_of[before[k]]] - 1
      if from ~= to and not seen[from << 20 | to] then
        seen[from << 20 | to] = true
        edges[#edges + 1] = { from, to }
      end
    end
  end
  local note = whole
    and ("%d functions: one box for those that are equally deep."):format(#nodes) or ""
  return { nodes = boxes, edges = edges, note = note }
end

-- The rows of chain:changes(), with the fields of each value as one text.
local function cut_changes(rows)
  local list = {}
  for i = 1, min(#rows, CHANGES_MAX) do
    local row = rows[i]
    list[i] = {
      stage = clean(row.stage_name, NAME_MAX), name = clean(row.name, NAME_MAX),
      change = row.change, type = clean(row.type, NAME_MAX), bytes = row.bytes, rows = row.rows,
      columns = row.columns, was = row.was,
      names = row.names and clean(table.concat(row.names, ", "), NAME_MAX),
    }
  end
  return list, #rows > CHANGES_MAX
    and ("The first %d of %d."):format(CHANGES_MAX, #rows) or nil
end

---@class fzlua.RunPlan the graph of an invoke or a stream
---@field nodes table[] stage, name, layer, `before`: the numbers of the nodes that it needs
---@field staged boolean whether it is the graph of a chain
---@field window integer|nil of a stream: how many items are under way
---@field is_window_fixed boolean|nil whether the script has set `window`

---@class fzlua.RunSource
---@field records table a list of fzlua.TraceEvent
---@field plans fzlua.RunPlan[]
---@field call_names table<string, boolean> names of maps and calls of pools
---@field environment string[][] names and texts
---@field title string
---@field changes table[]|nil rows of chain:changes()

---@param source fzlua.RunSource
---@return table
function run_data.collect(source)
  local records = source.records
  local data = {
    by_name = {}, functions = {}, groups = {}, group_of = {}, workers = {}, by_worker = {},
    nodes = {}, failures = {}, nfailures = 0, slowest = {}, slow_from = 0,
    call_names = source.call_names, most = { total = 0 }, records = records,
    summary = { calls = 0, busy = 0, wall = 0, failed = 0, cancelled = 0, retries = 0, cached = 0,
      cpu = 0, sent = 0, received = 0, peak = 0 },
  }
  local began, ended = records:span()
  if began then data.summary.wall = micros(ended - began) end
  local e = {} -- each event in turn
  for i = 1, #records do add_event(data, i, records:read(i, began, e)) end
  return data
end

-- Find the busiest stage, which needs more workers for a faster run.
local function find_busiest(data)
  local summary, busiest = data.summary, nil
  for _, group in ipairs(data.groups) do
    local workers = worker_times.most_at_once(group.times_of)
    local share = summary.wall > 0 and group.busy / workers / summary.wall or 0
    if not busiest or share > busiest.share then
      busiest = { name = group.name, workers = workers, share = share }
    end
  end
  summary.busiest = busiest
end

-- The most workers of all groups at the same time.
local function most_workers(groups)
  local times_of = {}
  for _, group in ipairs(groups) do
    for worker, times in pairs(group.times_of) do
      worker_times.note(times_of, worker, times[1], times[2])
    end
  end
  return worker_times.most_at_once(times_of)
end

---The data of the page, whose size is bounded.
---@param data table from collect()
---@param source fzlua.RunSource
---@return table
function run_data.page(data, source)
  local summary, notes, most = data.summary, {}, data.most
  summary.workers, summary.nodes = #data.workers, 0
  summary.at_once = most_workers(data.groups)
  for _ in pairs(data.nodes) do summary.nodes = summary.nodes + 1 end
  summary.most = most.total > 0
    and set_names({ total = most.total, calls = most.calls }, most) or nil
  find_busiest(data)
  local graphs = {}
  for i, plan in ipairs(source.plans) do
    if i <= GRAPHS_MAX then graphs[i] = picture(data, plan) end
  end
  table.sort(data.slowest, slower)
  local page = {
    title = clean(source.title, NAME_MAX), summary = summary, graphs = graphs, groups = {},
    histograms = {}, failures = data.failures, notes = notes, environment = {},
    slowest = table.move(data.slowest, 1, min(#data.slowest, SLOWEST_MAX), 1, {}),
  }
  for i, group in ipairs(data.groups) do
    page.groups[i], page.histograms[i] = group.name, histogram(group, i)
  end
  page.workers, notes.timeline = cut_workers(data)
  page.functions, notes.functions = cut_functions(data)
  if data.nfailures > #data.failures then
    notes.failures = ("The first %d of %d."):format(#data.failures, data.nfailures)
  end
  if source.changes then page.changes, notes.changes = cut_changes(source.changes) end
  for i, fact in ipairs(source.environment) do
    page.environment[i] = { clean(fact[1], NAME_MAX), clean(fact[2], MESSAGE_MAX) }
  end
  return page
end

return run_data
