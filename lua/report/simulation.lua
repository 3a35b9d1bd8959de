--- simulation.lua - replays recorded calls with other numbers of workers, chunks or speeds.
--
-- In the model a call takes as long as the recorded call took. It starts as soon as the calls that
-- it needs are done, one of the `jobs` places is free, and its stage has a free worker. Calls wait
-- in the order of their numbers. If running calls need more processors than there are, all calls
-- that compute become slower by the same factor. Therefore the model has a second clock. It is
-- slower by that factor, and it decides when the calls that compute end.

local simulation = {}

---@class fzlua.SimulatedCall
---@field took number seconds
---@field group integer number of its stage
---@field before integer[] numbers of the calls that it needs
---@field cpu number|nil the processors that it needs while it runs, from 0 to 1
---@field pause number|nil seconds between the last of these and the call: before a retry
---@field from number|nil earliest start in seconds, for a call that is in no graph

---@class fzlua.SimulatedRun
---@field jobs integer calls at once
---@field processors integer|nil
---@field workers table<integer, integer>|nil by stage: the maximum number of calls at once
---@field faster table<integer, number>|nil by stage: the factor by which its calls are faster

-- A heap of numbers, ordered by their keys.
local function push(heap, key, value)
  local i = #heap + 1
  heap[i] = { key, value }
  while i > 1 do
    local up = i // 2
    if heap[up][1] < heap[i][1] or heap[up][1] == heap[i][1] and heap[up][2] <= heap[i][2] then
      break
    end
    heap[up], heap[i] = heap[i], heap[up]
    i = up
  end
end

local function less(a, b)
  return a[1] < b[1] or a[1] == b[1] and a[2] < b[2]
end

local function pop(heap)
  local top, n = heap[1], #heap
  heap[1] = heap[n]
  heap[n] = nil
  local i = 1
  while 2 * i <= n - 1 do
    local down = 2 * i
    if down < n - 1 and less(heap[down + 1], heap[down]) then down = down + 1 end
    if not less(heap[down], heap[i]) then break end
    heap[down], heap[i] = heap[i], heap[down]
    i = down
  end
  return top[1], top[2]
end

-- For each call: the number of calls that it waits for, and the calls that wait for it.
local function connect(calls)
  local missing, users = {}, {}
  for i, call in ipairs(calls) do
    missing[i], users[i] = #call.before, users[i] or {}
    for _, before in ipairs(call.before) do
      users[before] = users[before] or {}
      table.insert(users[before], i)
    end
  end
  return missing, users
end

-- A call that uses less than this part of a processor mostly waits, so other calls do not slow it
-- down.
local WAITS <const> = 0.05

---The seconds from the start of the first call to the end of the last one.
---@param calls fzlua.SimulatedCall[]
---@param run fzlua.SimulatedRun
---@return number
function simulation.time(calls, run)
  local missing, users = connect(calls)
  local ready, waiting, running, busy = {}, {}, {}, {}
  local computing = {} -- running calls that compute, by their ends on the slower clock
  local now, free, slow_now, demand = 0, run.jobs, 0, 0
  local processors = run.processors or math.huge
  local faster, workers = run.faster or {}, run.workers or {}
  for i, call in ipairs(calls) do
    if missing[i] == 0 then push(ready, call.from or 0, i) end
  end
  local function start(i)
    local group = calls[i].group
    local took, cpu = calls[i].took / (faster[group] or 1), calls[i].cpu or 0
    free, busy[group] = free - 1, (busy[group] or 0) + 1
    if cpu < WAITS then
      push(running, now + took, i)
    else
      demand = demand + cpu
      push(computing, slow_now + took, i)
    end
  end
  -- The time at which the next running call ends; nil if there is none.
  local function next_end()
    local waits, computes = running[1] and running[1][1], nil
    if computing[1] then
      computes = now + (computing[1][1] - slow_now) * math.max(demand / processors, 1)
    end
    if not waits or computes and computes < waits then return computes, computing end
    return waits, running
  end
  local function advance(to)
    slow_now = slow_now + (to - now) / math.max(demand / processors, 1)
    now = to
  end
  local function may_start(i)
    local group = calls[i].group
    return free > 0 and (busy[group] or 0) < (workers[group] or math.huge)
  end
  local function start_waiting(group)
    local list = waiting[group]
    while list and list[1] and may_start(list[1][2]) do
      local _, i = pop(list)
      start(i)
    end
  end
  while true do
    while ready[1] and ready[1][1] <= now do
      local _, i = pop(ready)
      waiting[calls[i].group] = waiting[calls[i].group] or {}
      push(waiting[calls[i].group], i, i)
    end
    -- Calls of later stages start first, so that items that were begun are done sooner.
    local groups = {}
    for group in pairs(waiting) do groups[#groups + 1] = group end
    table.sort(groups, function(a, b) return a > b end)
    for _, group in ipairs(groups) do start_waiting(group) end
    local ended, heap = next_end()
    if not ended and not ready[1] then return now end
    if ended and (not ready[1] or ended <= ready[1][1]) then
      advance(ended)
      local key, i = pop(heap)
      if heap == computing then
        slow_now = key -- set exactly, so that rounding errors do not add up
        demand = computing[1] and demand - calls[i].cpu or 0
      end
      free = free + 1
      busy[calls[i].group] = busy[calls[i].group] - 1
      for _, user in ipairs(users[i]) do
        missing[user] = missing[user] - 1
        if missing[user] == 0 then push(ready, now + (calls[user].pause or 0), user) end
      end
    else
      advance(ready[1][1])
    end
  end
end

return simulation
