--- memory.lua - bytes of memory: fzlua memory.lua worker | list | fold LOG | stream N
--
--   worker   the private memory of an idle worker, in a script that has nothing else
--   list     the maximum that 4 workers add to the memory of all while they walk a list of 100 MB
--   stream   the memory of a script that streams N items through three stages, and of its workers
--   fold     the peak memory of a script that folds the pieces of a log, and of its workers

local fz = require "fzlua"

local MB <const> = 1000000

-- The sum of the fields of a process that match, in bytes; 0 if the process has ended.
local function memory(pid, pattern)
  local file <close> = io.open(("/proc/%s/smaps_rollup"):format(pid))
  local sum = 0
  for line in (file and file:read("a") or ""):gmatch("[^\n]+") do
    local name, kib = line:match("^(%S+):%s+(%d+) kB")
    if name and name:find(pattern) then sum = sum + kib * 1024 end
  end
  return sum
end

local function idle_worker()
  local pool <close> = fz.pool(2)
  pool:map(math.type, {1, 2, 3, 4, 5, 6})
  return memory(pool.workers[1], "^Private_")
end

-- Shared pages count in parts, so that the sum over all processes is what they take together.
local function of_all()
  local file <close> = assert(io.open("/proc/thread-self/children"))
  local sum = memory("self", "^Pss$")
  for pid in file:read("a"):gmatch("%d+") do sum = sum + memory(pid, "^Pss$") end
  return sum
end

-- Groups of small tables, as scripts have them.
local function long_list()
  local list = {}
  repeat
    local group = {}
    for i = 1, 1000 do group[i] = {id = #list * 1000 + i, weight = i * 0.5} end
    list[#list + 1] = group
  until collectgarbage("count") * 1024 >= 100 * MB
  collectgarbage()
  return list
end

-- Reads the whole group, and makes no garbage, because garbage would count as memory.
local function heaviest(group)
  local best = group[1]
  for _, item in ipairs(group) do
    if item.weight > best.weight then best = item end
  end
  return best.id
end

local function mapped_list()
  local list = long_list()
  local before, most = of_all(), 0
  local results = fz.map(heaviest, list, {jobs = 4, progress = function(done)
    if done % 50 == 0 or done == #list then most = math.max(most, of_all()) end
  end})
  assert(#results == #list and results[#list] == #list * 1000)
  return most - before
end

local function folded_log()
  local most = 0
  local fold = fz.spawn(fz.fold, function(n, piece)
    return n + select(2, piece:gsub("\n", ""))
  end, fz.chunks(arg[2]), 0, function(a, b) return a + b end)
  while not fold:done() do
    most = math.max(most, of_all())
    fz.sleep(0.002)
  end
  assert(fold:await() > 0)
  return most
end

local function streamed_items()
  local stages, n, most = {}, tonumber(arg[2]), 0
  for i = 1, 3 do
    stages[i] = fz.stage("stage" .. i)
    stages[i]:register("x", function(x) return x + 1 end)
  end
  local i = 0
  local function count()
    i = i + 1
    return i <= n and i or nil
  end
  for k, out in fz.chain(stages):stream(count, {inflight = 1024}) do
    assert(out.x == k + 3 and i - k < 1024)
    if k % 100000 == 0 then most = math.max(most, of_all()) end
  end
  return most
end

local MEASURES = {
  worker = idle_worker, list = mapped_list, fold = folded_log, stream = streamed_items,
}
local measure = assert(MEASURES[arg[1]], "worker, list, fold or stream")
print(measure())
