-- processes.lua: functions in processes of their own, started and joined one by one.
--
--   fzlua examples/processes.lua
--
-- Shows results, exit codes, signals, errors, and what a script waits for at its end. A process
-- inherits all that is here when it starts: nothing is sent to it. Only its results are copied.

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

-- Four at once; results come in whatever order one asks for them.
local counters = {}
for i = 1, 4 do
  counters[i] = fz.process(count_primes, (i - 1) * 20000, i * 20000 - 1):start()
end
for i, p in ipairs(counters) do
  local n, name = p:result()
  print(("%s: %d primes from %d to %d"):format(name, n, (i - 1) * 20000, i * 20000 - 1))
end
print("primes noted in this process", next(primes))

-- How one ends is its exit code: 0, what os.exit() gave, 1 for an error, or a signal's number.
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

-- An error reaches whoever asks for the result; unsendable results say where.
for _, f in ipairs {
  function() error { code = 42 } end,
  function() return { rows = { io.stdout, coroutine.create(print) } } end,
} do
  local p <close> = fz.process(f):start()
  local ok, e = pcall(p.result, p)
  print(ok, e.kind, e.kind == "error" and e.cause.code or e.message)
end

-- A process may start others, and waits for them: its result comes before their end, its own
-- end after it.
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

-- A daemon is ended with the script, which waits for all others.
local daemon = fz.process(forever)
daemon.daemon = true
daemon.name = "watcher"
daemon:start()
fz.process(print, "the last word"):start()
