-- test_pool_killed.lua - workers of pools and maps are killed, time out or leak memory: only their
-- own job fails, the pool goes on, and no process that they started is left.

local t = ...
local core = require "fzlua.core"

local tests = {}

local function kill(pid, signal)
  os.execute(("kill -%s %d 2>/dev/null"):format(signal or 9, pid))
end

-- Kill the worker that calls this function by a signal.
local function die(signal)
  kill(core.pid(), signal)
  while true do end
end

local function size_of(path)
  local file = io.open(path)
  if not file then return 0 end
  local _ <close> = file
  return #file:read "a"
end

local function append(path, text)
  io.open(path, "a"):write(text):close()
end

-- Processes that a job starts: a child, a child in a session of its own, and processes in another
-- session whose parent has ended.
local function family(mark)
  os.execute(("MARK=%s sh -c '%s'"):format(mark,
    "setsid sleep 77 & (setsid sh -c \"sleep 78 & sleep 79\" &) ; sleep 80"))
end

-- Call f(map) for the map of a pool and for fz.map.
local function both_maps(workers, f)
  do
    local pool <close> = fz.pool(workers)
    f(function(...) return pool:map(...) end)
  end
  f(function(g, list, options)
    options = options or {}
    options.jobs = workers
    return fz.map(g, list, options)
  end)
end

tests["item 3 of 8 kills its worker: 7 values, one crash, and the pool goes on"] = function()
  both_maps(2, function(map)
    local list = map(function(x)
      if x == 3 then die(9) end
      return x
    end, t.numbers(8), { on_error = "continue" })
    t.equal({ list[1], list[2], list[3], list[4], list[8] }, { 1, 2, nil, 4, 8 })
    local index, e = next(list.errors)
    t.equal({ index, next(list.errors, 3) }, { 3 })
    t.equal({ e.kind, e.signal, e.index, e.attempt }, { "crash", 9, 3, 1 })
    t.match(e, "item 3, attempt 1, pid ", "SIGKILL")
    t.equal(#map(math.abs, t.numbers(1000)), 1000)
    e = t.fails("crash", map, function(x) if x == 3 then die(9) end return x end, t.numbers(8))
    t.equal({ e.index, e.signal }, { 3, 9 })
  end)
end

tests["a hundred kills at random items: one failure each, with a retry none"] = function()
  local signals = { 9, 11, 6, 15, 7 }
  local pool <close> = fz.pool(3)
  local marks = t.file ""
  for round = 1, 100 do
    local victim, signal = math.random(60), signals[math.random(#signals)]
    local path = marks .. round
    local retries = round % 2
    local list = pool:map(function(x)
      if x == victim and not os.remove(path) then
        append(path, "x")
        die(signal)
      end
      return x
    end, t.numbers(60), { on_error = "continue", retries = retries })
    os.remove(path)
    local missing = 0
    for i = 1, 60 do missing = missing + (list[i] == i and 0 or 1) end
    if retries == 1 then
      t.equal({ missing, next(list.errors) }, { 0 })
    else
      local index, e = next(list.errors)
      if not t.exact then
        index, e = victim, list.errors[victim]
        for i = 1, 60 do assert(list[i] == i or list.errors[i].kind == "crash") end
      else
        t.equal({ missing, next(list.errors, index) }, { 1 })
      end
      t.equal({ index, e.kind, e.signal, e.index }, { victim, "crash", signal, victim })
    end
  end
end

tests["kills from outside at any moment: at most one item each, with a retry none"] = function()
  local pool <close> = fz.pool(3)
  local failures = 0
  for round = 1, 40 do
    local at, kills = math.random(200), 0
    local retries = round % 2
    local list = pool:map(function(x) return x end, t.numbers(200), {
      on_error = "continue", retries = retries, chunksize = math.random(20),
      progress = function(done)
        if done >= at and kills == 0 then
          kills = 1
          local pids = pool.workers
          kill(pids[math.random(#pids)])
        end
      end,
    })
    local missing, errors = 0, 0
    for i = 1, 200 do missing = missing + (list[i] == i and 0 or 1) end
    for _, e in pairs(list.errors) do
      errors = errors + 1
      t.equal({ e.kind, e.signal }, { "crash", 9 })
    end
    t.equal(missing, errors)
    assert(errors <= (t.exact and 1 or 20) * (1 - retries), errors)
    failures = failures + errors
  end
  t.equal(#pool:map(math.abs, t.numbers(100)), 100)
end

tests["idle workers that are killed are replaced without an error"] =
function()
  local pool <close> = fz.pool(2)
  for _ = 1, 5 do
    local before = pool.workers
    for _, pid in ipairs(before) do kill(pid) end
    t.equal(pool:apply(math.abs, -1), 1)
    t.equal(#pool:map(math.abs, t.numbers(50)), 50)
    local after = pool.workers
    t.equal(#after, 2)
    for _, pid in ipairs(after) do assert(pid ~= before[1] and pid ~= before[2]) end
  end
end

tests["imap: a killed worker is its item's error"] = function()
  local pool <close> = fz.pool(2)
  for _, name in ipairs { "imap", "imap_unordered" } do
    local n, failed, others = 0, nil, 0
    for i, v, e in pool[name](pool, function(x)
      if x == 20 then die(11) end
      return x
    end, t.numbers(40), { on_error = "continue" }) do
      n = n + 1
      if i == 20 then
        failed = { i, v, e.kind, e.signal, e.index }
      elseif e and not t.exact then
        others = others + 1 -- announced together with item 20, and so failed with it
      else
        t.equal({ v, e }, { i })
      end
    end
    t.equal({ n, failed }, { 40, { 20, nil, "crash", 11, 20 } })
    assert(others < 20, others)
  end
end

tests["a worker killed while a large argument or result is under way"] = function()
  local big = ("0123456789abcdef"):rep(4 << 20)
  for round = 1, 6 do
    local pool <close> = fz.pool(2)
    local pids = pool.workers
    local r = pool:apply_async(function(s) return s .. "!" end, { big }, { retries = 2 })
    r:get(0.004 * round)
    for _, pid in ipairs(pids) do kill(pid) end
    local s = r:get()
    t.equal({ #s, s:sub(-2) }, { #big + 1, "f!" })
  end
end

tests["every way to die has its kind and a text that says it"] = function()
  local pool <close> = fz.pool(1)
  local function crash(f, fields, ...)
    local e = t.fails("crash", pool.apply, pool, f)
    t.equal({ signal = e.signal, exitcode = e.exitcode }, fields)
    t.match(e, "pid " .. e.pid, ...)
    t.equal(t.is_running(e.pid), false)
  end
  crash(function() die(9) end, { signal = 9 }, "SIGKILL", "memory")
  crash(function() die(11) end, { signal = 11 }, "SIGSEGV")
  crash(function() die(6) end, { signal = 6 }, "SIGABRT")
  crash(function() os.exit(3) end, { exitcode = 3 }, "exited with code 3")
  crash(function() os.exit(0) end, { exitcode = 0 }, "exited with code 0")
  crash(function() os.exit(true, true) end, { exitcode = 0 }, "exited with code 0")
  local e = t.fails("timeout", function()
    pool:apply_async(function() while true do end end, nil, { timeout = 0.1 }):get()
  end)
  t.match(e, "timeout of 0.1 s")
  t.equal(t.is_running(e.pid), false)
  t.equal(pool:apply(math.abs, -1), 1)
end

tests["a worker that dies in init fails its call, and a pool of such workers does not hang"] =
function()
  local pool <close> = fz.pool { workers = 2, init = function() os.exit(5) end }
  local e = t.fails("crash", pool.apply, pool, math.abs, 1)
  t.equal(e.exitcode, 5)
  local list = pool:map(math.abs, t.numbers(6), { on_error = "continue" })
  for i = 1, 6 do t.equal(list.errors[i].kind, "crash") end
end

tests["4 endless items on 2 workers: 4 timeouts, and no processor is used any more"] = function()
  local pool <close> = fz.pool(2)
  local function endless() while true do end end
  local list = pool:map(endless, t.numbers(4), { timeout = 0.5, on_error = "continue" })
  for i = 1, 4 do
    local e = list.errors[i]
    t.equal({ e.kind, e.index, t.is_running(e.pid) }, { "timeout", i, false })
  end
  t.equal(pool:map(math.abs, { -1, -2 }), { 1, 2, n = 2 })
end

tests["timeout is for each element, not for the chunk or the map"] = function()
  local pool <close> = fz.pool(2)
  local list = pool:map(function(x) os.execute "sleep 0.1" return x end, t.numbers(20),
    { timeout = 1.5, chunksize = 10, on_error = "continue" })
  t.equal({ #list, next(list.errors) }, { 20 })
end

tests["a worker that was stopped is ended by the timeout"] = function()
  local pool <close> = fz.pool(2)
  local e = t.fails("timeout", pool.map, pool, function() kill(core.pid(), "STOP") end, { 1 },
    { timeout = 0.3 })
  t.equal(t.is_running(e.pid), false)
  t.equal(pool:apply(math.abs, -1), 1)
end

tests["what a timed-out job has started ends with it, twice forked and setsid or not"] = function()
  both_maps(2, function(map)
    local mark = t.mark()
    local e = t.fails("timeout", map, family, { mark }, { timeout = 0.5 })
    t.equal({ e.index, t.left_of(mark) }, { 1, "" })
  end)
end

tests["what a cancelled, terminated or dropped job has started ends with it"] = function()
  local ready = t.file ""
  local function begin(mark)
    append(ready, "x")
    family(mark)
  end
  local function started(pool, mark)
    local size = size_of(ready)
    local r = pool:apply_async(begin, { mark })
    t.until_true(function() r:ready() return size_of(ready) > size end)
    os.execute "sleep 0.1"
    return r
  end
  local pool <close> = fz.pool(2)
  local mark = t.mark()
  started(pool, mark):cancel()
  t.equal(t.left_of(mark), "")
  mark = t.mark()
  started(pool, mark)
  pool:terminate()
  t.equal(t.left_of(mark), "")
  mark = t.mark()
  do
    started(fz.pool(1), mark)
  end
  collectgarbage()
  collectgarbage()
  t.equal(t.left_of(mark), "")
end

tests["what a job leaves running does not hold up its pool, and ends with the worker"] = function()
  local mark = t.mark()
  do
    local pool <close> = fz.pool(1)
    t.equal(pool:apply(function()
      os.execute(("MARK=%s setsid sleep 77 >/dev/null &"):format(mark))
      return 1
    end), 1)
    t.equal(pool:apply(math.abs, -1), 1)
  end
  t.equal(t.left_of(mark), "")
end

tests["what a stage left running ends when its idle worker is killed"] = function()
  local mark = t.mark()
  local stage = fz.stage "s"
  stage:register("PID", {}, function()
    os.execute(("MARK=%s setsid sleep 77 >/dev/null &"):format(mark))
    return core.pid()
  end)
  local chain <close> = fz.chain { stage }
  local pid = chain().PID
  kill(pid)
  t.until_true(function() return not t.is_running(pid) end)
  chain:close()
  t.equal(t.left_of(mark), "")
end

tests["max_tasks replaces workers that leak"] = function()
  local kept = {}
  local pool <close> = fz.pool { workers = 2, max_tasks = 5 }
  local sizes = pool:map(function(x)
    kept[x] = ("x"):rep(8 << 20)
    local file <close> = assert(io.open "/proc/self/statm")
    local _, pages = file:read("n", "n")
    return pages * 4096
  end, t.numbers(60))
  local least, most = math.huge, 0
  for _, size in ipairs(sizes) do least, most = math.min(least, size), math.max(most, size) end
  assert(most - least < 100 << 20, ("%d MiB more"):format(most - least >> 20))
  t.equal(#kept, 0)
end

-- Run `code` on a terminal of its own, and press Ctrl-C `times` when the file that READY names has
-- `size` bytes. Returns the output, the status, and the processes that are left.
local function interrupted(code, size, times)
  local ready, mark = t.file "", t.mark()
  local script = t.file(("local READY = %q\n"):format(ready) .. code)
  local out, _, status = t.shell(([[
{ until_true eval 'test $(wc -c < %s) -ge %d'
  for i in $(seq %d); do sleep 0.2; printf '\003'; done
  until_true test -e %s.end
} | { NO_COLOR=1 MARK=%s SHELL=/bin/sh script -qec "exec '$FZLUA' %s" /dev/null
status=$?; : > %s.end; exit $status; }]]):format(ready, size, times, ready, mark, script, ready))
  os.remove(ready .. ".end")
  return out:gsub("\r", ""):gsub("%^C", ""), status, t.left_of(mark)
end

local MAP = [[
local list = {}
for i = 1, 100 do list[i] = i end
local function f(x)
  if x <= 12 then return x end
  io.open(READY, "a"):write("x"):close()
  os.execute "setsid sleep 77 & sleep 78"
end
]]

tests["Ctrl-C during a map: one line with the counts, status 130, nothing is left"] = function()
  for _, call in ipairs { "fz.pool(2):map(f, list)", "fz.map(f, list, { jobs = 2 })" } do
    local from = fz.now()
    local out, status, left = interrupted(MAP .. call, 2, 1)
    local done, cancelled, rest = out:match
      "^fzlua: interrupted: (%d+) done, (%d+) cancelled, (%d+) not started\n$"
    t.equal({ done + cancelled + rest, status, left }, { 100, 130, "" })
    if t.exact then t.equal({ done, cancelled }, { "12", "2" }) end
    assert(fz.now() - from < 20)
  end
end

tests["Ctrl-C that is caught: the script goes on with its pool"] = function()
  local out, status, left = interrupted(MAP .. [[
local pool <close> = fz.pool(2)
local ok, e = pcall(pool.map, pool, f, list)
print(ok, e.kind)
print(pool:apply(math.abs, -7), #pool.workers)]], 2, 1)
  t.equal({ out, status, left }, { "false\tinterrupted\n7\t2\n", 0, "" })
end

tests["Ctrl-C during apply, imap, get and join"] = function()
  for _, call in ipairs {
    "local pool <close> = fz.pool(2) pool:apply(f, 13)",
    "local pool <close> = fz.pool(2) for _ in pool:imap(f, { 13, 14 }) do end",
    "local pool <close> = fz.pool(2) pool:apply_async(f, { 13 }):get()",
    "local pool <close> = fz.pool(2) pool:apply_async(f, { 13 }) pool:close() pool:join()",
    "do local pool <close> = fz.pool(2) pool:apply_async(f, { 13 }) end",
  } do
    local out, status, left = interrupted(MAP .. call, 1, 1)
    t.match(out, "fzlua: interrupted")
    local _, lines = out:gsub("\n", "")
    t.equal({ lines, status, left }, { 1, 130, "" })
  end
end

tests["a second Ctrl-C ends a script that catches the first"] = function()
  local out, status, left = interrupted(MAP .. [[
local pool = fz.pool(2)
pcall(pool.map, pool, f, list)
while true do pcall(function() while true do end end) end]], 2, 3)
  t.equal({ status ~= 0, left }, { true, "" })
  assert(#out < 200, out)
end

tests["kill -9 of the command ends the workers of its pools and what they started"] = function()
  for _, call in ipairs { "fz.pool(2):map(f, list)", "fz.map(f, list, { jobs = 2 })" } do
    local ready, mark = t.file "", t.mark()
    local script = t.file(("local READY = %q\n"):format(ready) .. MAP .. call)
    t.shell(([[
unset MARK; MARK=%s "$FZLUA" %s >/dev/null 2>&1 </dev/null & pid=$!
until_true eval 'test $(wc -c < %s) -ge 2'
kill -9 $pid; wait $pid]]):format(mark, script, ready))
    t.equal(t.left_of(mark), "")
  end
end

return tests
