-- startgun.lua: runners wait for the gun, and none may start before it.
--
--   fzlua examples/startgun.lua
--
-- Shows fz.event: any number of processes wait for it until one process sets it. All processes have
-- the same clock, so a false start would be visible.

local fz = require "fzlua"

local RUNNERS <const> = {"Abebe", "Emil", "Fanny", "Grete", "Paavo"}

local ready, gun = fz.semaphore(0), fz.event()

local function run(name)
  ready:release() -- this runner is ready
  gun:wait()
  local started = fz.now()
  for _ = 1, 100000 do end
  return {name = name, started = started, finished = fz.now()}
end

local race = {}
for lane, name in ipairs(RUNNERS) do race[lane] = fz.process(run, name):start() end
for _ = 1, #RUNNERS do ready:acquire() end
print(("%d runners are ready; the gun was fired: %s"):format(#RUNNERS, gun:is_set()))
local fired = fz.now()
gun:set()

local false_starts = 0
for lane, p in ipairs(race) do
  race[lane] = p:result()
  if race[lane].started < fired then false_starts = false_starts + 1 end
end
print("false starts:", false_starts)
print("finished:", #race)
table.sort(race, function(a, b) return a.finished < b.finished end)
for place, runner in ipairs(race) do
  io.stderr:write(("%d. %-6s %6.2f ms\n"):format(place, runner.name,
    (runner.finished - fired) * 1000))
end
