-- processes.lua: functions in processes of their own, started and joined one by one.
--
--   fzlua examples/processes.lua
--
-- Shows results, exit codes, signals, errors, and the processes that a script waits for at its
-- end. A process inherits all variables of the script when it starts. Only its results are copied.

local fz = require "fzlua"

local primes = {}

local function count_primes(from, to)
  local n = 0
  for i = math.max(from, 2), to do
    local prime = true
    for d = 2, math.floor(i ^ 0.5) do
      if i % d == 0 then
        prime = false
        break
      end
    end
    if prime then n = n + 1 end
  end
  primes[from] = n -- seen in this process only
  return n, fz.current_process().name
end

-- Four at once. Their results can be read in any order.
local counters = {}
for i = 1, 4 do
  counters[i] = fz.process(count_primes, (i - 1) * 20000, i * 20000 - 1):start()
end
for i, p in ipairs(counters) do
  local n, name = p:result()
  print(("%s: %d primes from %d to %d"):format(name, n, (i - 1) * 20000, i * 20000 - 1))
end
print("primes noted in this process", next(primes))

-- The exit code: 0, the number given to os.exit(), 1 for an error, or minus the signal's number.
local function forever()
  while true do end
end

local ends = {
  { "returns", function() return "done" end },
  { "exits", function() os.exit(7) end },
  { "is terminated", forever, "terminate" },
  { "is killed", forever, "kill" },
}
for _, case in ipairs(ends) do
  local what, f, method = table.unpack(case)
  local p <close> = fz.process(f):start()
  if method then
    print(what, "after 10 ms", p:join(0.01))
    p[method](p)
  end
  p:join()
  print(what, "exit code " .. p.exitcode)
end

-- result() raises the error of the process. The error of an unsendable result has the path to it.
for _, f in ipairs {
  function() error { code = 42 } end,
  function() return { rows = { io.stdout, coroutine.create(print) } } end,
} do
  local p <close> = fz.process(f):start()
  local ok, e = pcall(p.result, p)
  print(ok, e.kind, e.kind == "error" and e.cause.code or e.message)
end

-- A process may start others and waits for them before it ends. Its result arrives before they end.
local p <close> = fz.process(function()
  fz.process(function()
    os.execute "sleep 0.1"
    print "the inner one has ended"
  end):start()
  return "early"
end):start()
local result = p:result()
p:join()
print("the outer one has ended", p.exitcode, result)

-- The script ends its daemons, and waits for all other processes.
local daemon = fz.process(forever)
daemon.daemon = true
daemon.name = "watcher"
daemon:start()
fz.process(print, "the last word"):start()
