--- worker_times.lua - counts the workers that run at the same time.
--
-- A worker counts from its first start to its last end, so the workers of a map are not added to
-- those of an earlier map.

local worker_times = {}

---Note a call of a worker.
---@param workers table key -> its first start and its last end
---@param key any of the worker
---@param started number
---@param ended number
---@return boolean is_new whether it is the first call of the worker
function worker_times.note(workers, key, started, ended)
  if ended < started then ended = started end
  local times = workers[key]
  if not times then
    workers[key] = { started, ended }
    return true
  end
  if started < times[1] then times[1] = started end
  if ended > times[2] then times[2] = ended end
  return false
end

-- The order by time. At the same time, an end comes before a start.
local function earlier(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end

---The maximum number of workers that ran at the same time; at least 1.
---@param workers table as note() fills it
---@return integer
function worker_times.most_at_once(workers)
  local changes, n, most = {}, 0, 1
  for _, times in pairs(workers) do
    changes[#changes + 1] = { times[1], 1 }
    changes[#changes + 1] = { times[2], -1 }
  end
  table.sort(changes, earlier)
  for _, change in ipairs(changes) do
    n = n + change[2]
    most = math.max(most, n)
  end
  return most
end

return worker_times
