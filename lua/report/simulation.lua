--- simulation.lua - replays recorded calls with other numbers of workers, windows or speeds.
--
-- In the model a call takes as long as the recorded call took. It starts as soon as the calls that
-- it needs are done, the script has queued it, one of the `jobs` slots is free, and its stage has
-- a free worker. Calls wait in the order of their numbers. The script is one process: its work
-- before calls, and the starts of workers, come one after the other. If running calls and the
-- script need more processors than there are, all that compute become slower by the same factor.
-- Therefore the model has a second clock. It is slower by that factor, and it decides when the
-- calls that compute end.

local simulation = {}

---@class fzlua.SimulatedCall
---@field took number seconds
---@field group integer number of its stage
---@field before integer[] numbers of the calls that it needs
---@field cpu number|nil the processors that it needs while it runs, from 0 to 1
---@field with integer|nil number of the call with which it is queued, in place of `before`
---@field pause number|nil seconds between the last of these and the call: before a retry
---@field script number|nil seconds of the script's process before the call is queued
---@field result number|nil seconds of the script's process for its results
---@field from number|nil earliest start in seconds, for a call that is in no graph
---@field workers fzlua.SimulatedWorkers|nil the workers that make the call

---@class fzlua.SimulatedWorkers the workers of a stage, or of one map; nil: they are there
---@field first_launch number seconds of the script's process to start the first worker
---@field first_boot number seconds from then to its first call
---@field launch number the same for each further worker
---@field boot number
---@field init number seconds of the stage's init in each worker

---@class fzlua.SimulatedRun
---@field jobs integer calls at once
---@field processors integer|nil
---@field script_cpu number|nil the processors that the script needs while it works, from 0 to 1
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

-- For each call: the number of calls that it waits for, the calls that wait for its end, and those
-- that are queued with it.
local function connect(calls)
  local missing, users, followers = {}, {}, {}
  for i, call in ipairs(calls) do
    users[i] = users[i] or {}
    if call.with then
      missing[i] = 1
      followers[call.with] = followers[call.with] or {}
      table.insert(followers[call.with], i)
    else
      missing[i] = #call.before
      for _, before in ipairs(call.before) do
        users[before] = users[before] or {}
        table.insert(users[before], i)
      end
    end
  end
  return missing, users, followers
end

-- A call that uses less than this part of a processor mostly waits, so other calls do not slow it
-- down.
local WAITS <const> = 0.05

-- The state of a simulation. `now` is its time, `slow_now` that of the slower clock.
local Replay = {}
Replay.__index = Replay

local function new_replay(calls, run)
  local missing, users, followers = connect(calls)
  return setmetatable({ calls = calls, run = run, missing = missing, users = users,
    followers = followers,
    now = 0, slow_now = 0, demand = 0, free = run.jobs, busy = {}, known = {},
    ready = {}, -- by time: calls that the script will queue
    waiting = {}, -- by stage: calls that wait for a slot and a worker
    steps = {}, -- by end: what ends at a time
    computing = {}, -- by end on the slower clock: what computes
    work = {}, working = false, -- what the script has to do, and whether it works
    number = 0, of = {}, -- the functions that steps call at their ends
    processors = run.processors or math.huge }, Replay)
end

-- Call `f` after `took` seconds. If `cpu` is larger than a moment, it computes meanwhile.
function Replay:after(took, cpu, f)
  local number = self.number + 1
  self.number = number
  self.of[number] = f
  if cpu < WAITS then return push(self.steps, self.now + took, number) end
  self.demand = self.demand + cpu
  push(self.computing, self.slow_now + took, number)
  self.of[number] = function()
    self.demand = self.computing[1] and self.demand - cpu or 0
    f()
  end
end

-- Let the script do its next piece of work.
function Replay:work_on()
  local piece = not self.working and table.remove(self.work, 1)
  if not piece then return end
  self.working = true
  self:after(piece.took, self.run.script_cpu or 0, function()
    self.working = false
    piece.done()
    self:dispatch() -- the calls that were queued may need workers
    self:work_on()
  end)
end

-- Call `f` once the script has worked for `took` seconds. Work that comes first is done before what
-- the script has yet to queue.
function Replay:work_for(took, f, comes_first)
  if took <= 0 then return f() end
  table.insert(self.work, comes_first and 1 or #self.work + 1, { took = took, done = f })
  self:work_on()
end

function Replay:queue(i)
  local group = self.calls[i].group
  self.waiting[group] = self.waiting[group] or {}
  push(self.waiting[group], i, i)
  for _, follower in ipairs(self.followers[i] or {}) do self:queue(follower) end
end

function Replay:finish(i)
  local group = self.calls[i].group
  self.free, self.busy[group] = self.free + 1, self.busy[group] - 1
  self:work_for(self.calls[i].result or 0, function() end)
  for _, user in ipairs(self.users[i]) do
    self.missing[user] = self.missing[user] - 1
    if self.missing[user] == 0 then
      push(self.ready, self.now + (self.calls[user].pause or 0), user)
    end
  end
end

function Replay:call(i, init)
  local call = self.calls[i]
  local took = call.took / (self.run.faster and self.run.faster[call.group] or 1)
  self:after(took + init, call.cpu or 0, function() self:finish(i) end)
end

-- Start a call, and before that its worker if none is idle.
function Replay:start(i)
  local call = self.calls[i]
  local group, workers = call.group, call.workers
  local busy = (self.busy[group] or 0) + 1
  self.free, self.busy[group] = self.free - 1, busy
  if not workers then return self:call(i, 0) end
  local known = self.known[group]
  if not known or known.of ~= workers then
    known = { of = workers, n = 0 }
    self.known[group] = known
  end
  if busy <= known.n then return self:call(i, 0) end
  known.n = known.n + 1
  local is_first = known.n == 1
  self:work_for(is_first and workers.first_launch or workers.launch, function()
    self:after(is_first and workers.first_boot or workers.boot, 0, function()
      self:call(i, workers.init)
    end)
  end, true)
end

function Replay:start_waiting(group)
  local list, most = self.waiting[group], self.run.workers and self.run.workers[group] or math.huge
  while list[1] and self.free > 0 and (self.busy[group] or 0) < most do
    local _, i = pop(list)
    self:start(i)
  end
end

-- Queue the calls whose time has come, and start those that can start.
function Replay:dispatch()
  while self.ready[1] and self.ready[1][1] <= self.now do
    local _, i = pop(self.ready)
    self:work_for(self.calls[i].script or 0, function() self:queue(i) end)
  end
  -- Calls of later stages start first, so that items that were begun are done sooner.
  local groups = {}
  for group in pairs(self.waiting) do groups[#groups + 1] = group end
  table.sort(groups, function(a, b) return a > b end)
  for _, group in ipairs(groups) do self:start_waiting(group) end
end

-- How much slower the slower clock is.
function Replay:factor() return math.max(self.demand / self.processors, 1) end

-- The time at which the next step ends, and its heap; nil if there is none.
function Replay:next_end()
  local waits, computes = self.steps[1] and self.steps[1][1], nil
  if self.computing[1] then
    computes = self.now + (self.computing[1][1] - self.slow_now) * self:factor()
  end
  if not waits or computes and computes < waits then return computes, self.computing end
  return waits, self.steps
end

function Replay:advance(to)
  self.slow_now = self.slow_now + (to - self.now) / self:factor()
  self.now = to
end

function Replay:end_step(heap)
  local key, number = pop(heap)
  -- Set the clock exactly, so that rounding errors do not add up.
  if heap == self.computing then self.slow_now = key end
  local f = self.of[number]
  self.of[number] = nil
  f()
end

---The seconds from the start of the first call to the end of the last one.
---@param calls fzlua.SimulatedCall[]
---@param run fzlua.SimulatedRun
---@return number
function simulation.time(calls, run)
  local replay = new_replay(calls, run)
  for i, call in ipairs(calls) do
    if replay.missing[i] == 0 then push(replay.ready, call.from or 0, i) end
  end
  while true do
    replay:dispatch()
    local ended, heap = replay:next_end()
    local ready = replay.ready[1] and replay.ready[1][1]
    if not ended and not ready then return replay.now end
    if ended and (not ready or ended <= ready) then
      replay:advance(ended)
      replay:end_step(heap)
    else
      replay:advance(math.max(ready, replay.now))
    end
  end
end

return simulation
