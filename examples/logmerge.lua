-- logmerge.lua: the logs of three services as one, in order of time.
--
--   fzlua examples/logmerge.lua
--
-- Shows fz.queue: any number of processes put lines into it, and the lines of each process keep
-- their order. The queue has room for four lines: a service that is faster than the merger waits.
-- A line can be printed when each running service has sent a later one.

local fz = require "fzlua"

local SERVICES <const>, LINES <const> = {"api", "db", "web"}, 6

local lines = fz.queue(4)

-- A service: the times of its lines are the same in each run.
local function serve(name, x)
  local time = 0
  for n = 1, LINES do
    x = (1664525 * x + 1013904223) & 0xffffffff
    time = time + 1 + (x * 900 >> 32)
    lines:put{service = name, time = time, text = ("request %d"):format(n)}
  end
  lines:put{service = name, time = math.huge}
end

local waiting = {} -- service -> its lines that were not printed, the oldest first
for i, name in ipairs(SERVICES) do
  waiting[name] = {}
  fz.process(serve, name, i * 0x9e3779b9):start()
end

-- The earliest line of all services. The mark at the end of a service is later than any line.
local function next_line()
  local first
  for _, name in ipairs(SERVICES) do
    while #waiting[name] == 0 do
      local line = lines:get()
      table.insert(waiting[line.service], line)
    end
    local line = waiting[name][1]
    if not first or line.time < first.time then first = line end
  end
  return table.remove(waiting[first.service], 1)
end

for line in next_line do
  if line.time == math.huge then break end
  print(("%d.%03d  %-3s  %s"):format(line.time // 1000, line.time % 1000, line.service, line.text))
end
lines:close()
