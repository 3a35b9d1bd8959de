-- --explain: one screen, and predictions that hold against real runs.
local t = ...
local simulation = require "fzlua.simulation"
local run_advice = require "fzlua.run_advice"
local tests = {}

local function calls(n, took, group)
  local list = {}
  for i = 1, n do list[i] = { took = took, group = group, before = {} } end
  return list
end

tests["a simulation has places, workers, order and speed"] = function()
  local list = calls(8, 1, 1)
  t.equal(simulation.time(list, { jobs = 1 }), 8.0)
  t.equal(simulation.time(list, { jobs = 3 }), 3.0)
  t.equal(simulation.time(list, { jobs = 8, workers = { 2 } }), 4.0)
  t.equal(simulation.time(list, { jobs = 4, faster = { 2 } }), 1.0)
  list[8].before = { 1, 2 }
  t.equal(simulation.time(list, { jobs = 100 }), 2.0)
  list[1].from = 5
  t.equal(simulation.time(list, { jobs = 100 }), 7.0)
  t.equal(simulation.time({}, { jobs = 1 }), 0)
end

-- Seconds of a stream of 12 items through two sleeping stages, and its records.
local function stream(jobs)
  local a, b = fz.stage { name = "a", workers = jobs }, fz.stage { name = "b", workers = jobs }
  a:register("x", "n", function(n) fz.sleep(0.06) return n end)
  b:register("y", "x", function(x) fz.sleep(0.03) return x end)
  local chain <close> = a >> b
  local items = t.numbers(12)
  local options = { jobs = jobs, trace = true, inflight = 12 }
  local before = fz.now()
  for _ in chain:stream(items, options) do end -- luacheck: ignore
  return fz.now() - before, chain.trace
end

tests["the prediction for more workers is near to what these take"] = function()
  local nodes = { { stage = "a", name = "x", before = {} },
    { stage = "b", name = "y", before = { 1 } } }
  local _, trace = stream(1)
  local real = stream(2)
  local run = run_advice.read { records = trace, call_names = {}, jobs = 1,
    plans = { { nodes = nodes, staged = true } } }
  local gains, model = run_advice.gains(run)
  local predicted
  for _, gain in ipairs(gains) do
    if gain.text:find "^2 times" then predicted = gain.predicted end
  end
  assert(predicted < model, predicted)
  assert(real >= 0.5 * predicted, ("%.3f s, but %.3f s were predicted"):format(real, predicted))
  assert(predicted >= 0.3, predicted) -- no less than the sleeps of two workers
end

tests["--explain fits on one screen and names the slowest stage"] = function()
  local script = t.file [[
local slow, quick = fz.stage "slow", fz.stage "quick"
slow:map("a", "list", function(x) fz.sleep(0.01) return x end)
quick:register("b", "a", function(a) return #a end)
local chain <close> = slow >> quick
chain:invoke({list = {1, 2, 3, 4, 5, 6}}, {jobs = 2})
print(chain.output.b)]]
  local out, err, status = t.command("--explain", script)
  t.equal({ out, status }, { "6\n", 0 })
  t.match(err, "critical path: ", "stages, the slowest first:\n  slow ", "bytes: ", "-j 4",
    "slow twice as fast")
  local _, lines = err:gsub("\n", "")
  assert(lines <= 24, err)
  for line in err:gmatch "[^\n]+" do assert(not line:find "%c", line) end
end

tests["--explain says so if nothing was called, and follows an error"] = function()
  local _, err = t.command("--explain", "-e", "print(1)")
  t.equal(err, "explain: no function was called\n")
  _, err = t.command("--explain", "-e", "fz.map(function(x) return x end, {1}) error 'no'")
  t.match(err, "no\n", "critical path")
end

return tests
