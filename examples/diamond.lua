-- diamond.lua: a graph without stages, where 3 need not wait for 5.
--
--        1
--       / \        fzlua examples/diamond.lua
--      2   5
--      |   |       With two or more jobs, 2 and then 3 run beside 5, which takes as long as both;
--      3   |       fzlua -j0 examples/diamond.lua runs one after the other.
--       \ /
--        4
--
-- Shows fz.dag: each node starts as soon as the nodes that it needs have ended. The order of the
-- nodes is printed. Their times differ from run to run, so they are written to standard error.

local fz = require "fzlua"

-- The function of a node: it takes some seconds, adds its number to its inputs, and notes when it
-- ran. The times of all nodes before it travel with the value. All processes have the same clock.
local function node(number, seconds)
  return function(...)
    local started = fz.now()
    local value, times = number, {}
    for _, input in ipairs{...} do
      value = value + input.value
      for name, time in pairs(input.times) do times[name] = time end
    end
    while fz.now() < started + seconds do end -- uses a processor, as real work does
    times[tostring(number)] = {started = started, done = fz.now()}
    return {value = value, times = times}
  end
end

local g = fz.dag()
g:add("1", {"start"}, node(1, 0.02))
g:add("2", {"1"}, node(2, 0.05))
g:add("5", {"1"}, node(5, 0.10))
g:add("3", {"2"}, node(3, 0.05))
g:add("4", {"3", "5"}, node(4, 0.02))

io.write(g:to_mermaid())

g:invoke{start = {value = 100, times = {}}}
local result = g.output["4"]
print("\n4 gives " .. result.value)

for _, edge in ipairs{{"1", "2"}, {"1", "5"}, {"2", "3"}, {"3", "4"}, {"5", "4"}} do
  local before, after = result.times[edge[1]], result.times[edge[2]]
  print(("%s started %s %s was done"):format(edge[2],
    after.started >= before.done and "after" or "BEFORE", edge[1]))
end

local origin = result.times["1"].started
for _, name in ipairs{"1", "2", "3", "5", "4"} do
  local time = result.times[name]
  local from, to = (time.started - origin) * 200 // 1 | 0, (time.done - origin) * 200 // 1 | 0
  io.stderr:write(("%s %s%s\n"):format(name, (" "):rep(from), ("="):rep(math.max(to - from, 1))))
end
