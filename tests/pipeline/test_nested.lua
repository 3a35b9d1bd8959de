-- test_nested.lua - chains in functions of chains, under make, and with make inside them, share one
-- set of slots.

local t = ...
local fz = require "fzlua"

local tests = {}

-- Append a line with the time to the file `log`. One write for a line keeps the line whole.
local function note(log, what)
  local file <close> = assert(io.open(log, "a"))
  file:setvbuf "no"
  file:write(("%.9f %s\n"):format(fz.now(), what))
end

-- Returns the maximum number of functions that ran at the same time, and the number of functions
-- that ended.
local function peak(log)
  local rows, now, most, n = {}, 0, 0, 0
  for line in io.lines(log) do
    local at, what = line:match "^(%S+) (%S)"
    rows[#rows + 1] = { at = tonumber(at), step = what == "+" and 1 or -1 }
  end
  table.sort(rows, function(a, b)
    return a.at < b.at or a.at == b.at and a.step < b.step
  end)
  for _, row in ipairs(rows) do
    now = now + row.step
    if row.step < 0 then n = n + 1 end
    most = math.max(most, now)
  end
  return most, n
end

-- Wait until `n` functions have run at the same time, so that on a busy machine none ends before
-- the others begin. After a minute it returns, and the test fails because peak() is too low.
local function until_peak(log, n)
  local deadline = fz.now() + 60
  while peak(log) < n and fz.now() < deadline do os.execute "sleep 0.01" end
end

-- A function that notes its begin and its end. It runs for `seconds`, and until `n` functions have
-- run at the same time.
local function leaf(log, seconds, n)
  return function()
    note(log, "+")
    os.execute(("sleep %g"):format(seconds))
    if n then until_peak(log, n) end
    note(log, "-")
    return 1
  end
end

-- A chain of one stage with `n` functions f.
local function wide(n, f)
  local stage = fz.stage "wide"
  for i = 1, n do stage:register("o" .. i, "A", f) end
  return fz.chain { stage }
end

-- Run a chain of `width` functions, each of which runs such a chain, and so on for `levels` levels.
-- The functions of the last level call f.
local function nest(levels, width, options, f)
  if levels == 0 then return f() end
  local chain <close> = wide(width, function()
    return nest(levels - 1, width, options, f)
  end)
  chain:invoke({ A = 1 }, options)
end

tests["4 outer and 4 inner functions on jobs=4: never more than 4 at once"] = function()
  local log = t.file ""
  nest(2, 4, { jobs = 4 }, leaf(log, 0.02, 4))
  t.equal({ peak(log) }, { 4, 16 })
end

tests["three levels on jobs=1, 2, 3"] = function()
  for jobs = 1, 3 do
    local log = t.file ""
    nest(3, 3, { jobs = jobs }, leaf(log, 0.01, jobs))
    t.equal({ peak(log) }, { jobs, 27 })
  end
end

tests["a function that waits for others needs no slot: one outer, 8 inner"] = function()
  local log = t.file ""
  local inner = wide(8, leaf(log, 0.05, 4))
  local outer <close> = wide(1, function() return inner({ A = 1 }, { jobs = 8 }).o8 end)
  t.equal(outer({ A = 1 }, { jobs = 4 }).o1, 1)
  t.equal({ peak(log) }, { 4, 8 })
end

tests["the inner chain's own jobs hold in addition"] = function()
  local log = t.file ""
  local outer <close> = wide(1, function()
    local inner <close> = wide(8, leaf(log, 0.01, 2))
    return inner({ A = 1 }, { jobs = 2 }).o1
  end)
  outer:invoke({ A = 1 }, { jobs = 4 })
  t.equal({ peak(log) }, { 2, 8 })
end

tests["several runs of one worker at once share its slots"] = function()
  local log = t.file ""
  local outer <close> = wide(2, function()
    local a <close> = wide(4, leaf(log, 0.01, 3))
    local b <close> = wide(4, leaf(log, 0.01, 3))
    local one = a:invoke_async({ A = 1 }, { jobs = 4 })
    local two = b:invoke_async({ A = 1 }, { jobs = 4 })
    two:await()
    return one:await().o1
  end)
  outer:invoke({ A = 1 }, { jobs = 3 })
  t.equal({ peak(log) }, { 3, 16 })
end

tests["several runs of one chain at once: as many as the one with the most jobs"] = function()
  local log = t.file ""
  local chain <close> = wide(6, leaf(log, 0.01, 3))
  local one = chain:invoke_async({ A = 1 }, { jobs = 2 })
  local two = chain:invoke_async({ A = 1 }, { jobs = 3 })
  one:await()
  two:await()
  t.equal({ peak(log) }, { 3, 12 })
  local again = t.file ""
  local fewer <close> = wide(6, leaf(again, 0.01, 4))
  fewer:invoke({ A = 1 }, { jobs = 4 })
  fewer:invoke({ A = 1 }, { jobs = 0 })
  local before = peak(again)
  fewer:invoke({ A = 1 }, { jobs = 2 })
  t.equal(before, 4)
end

tests["a pool in a pool, a map in a map, a chain in a pool: never too many at once"] = function()
  local list, one = { 1, 2, 3, 4 }, { chunksize = 1 }
  local log = t.file ""
  do
    local pool <close> = fz.pool(4)
    pool:map(function()
      local inner <close> = fz.pool(4)
      return inner:map(leaf(log, 0.02, 4), list, one).n
    end, list, one)
    t.equal({ peak(log) }, { 4, 16 })
  end
  log = t.file ""
  fz.map(function() return fz.map(leaf(log, 0.02, 3), list, { jobs = 4 }).n end, list, { jobs = 3 })
  t.equal({ peak(log) }, { 3, 16 })
  log = t.file ""
  local pool <close> = fz.pool(3)
  pool:apply(function() nest(2, 3, { jobs = 3 }, leaf(log, 0.02, 3)) end)
  t.equal({ peak(log) }, { 3, 9 })
end

tests["processes of functions share the slots of these"] = function()
  local log = t.file ""
  local outer <close> = wide(2, function()
    local process = fz.process(function() nest(1, 4, { jobs = 4 }, leaf(log, 0.02, 3)) end)
    process:start():join()
    return process.exitcode
  end)
  t.equal(outer({ A = 1 }, { jobs = 3 }).o2, 0)
  t.equal({ peak(log) }, { 3, 8 })
end

tests["a process of a function gives its slots back when it is killed"] = function()
  local log, held = t.file "", t.file ""
  local outer <close> = wide(1, function()
    local process = fz.process(function()
      nest(1, 4, { jobs = 4 }, function()
        note(held, "+")
        os.execute "sleep 60"
      end)
    end):start()
    repeat fz.sleep(0.01) until #io.open(held):read "a" > 60
    process:kill()
    process:join()
    nest(1, 8, { jobs = 4 }, leaf(log, 0.05, 4))
    return 1
  end)
  outer:invoke({ A = 1 }, { jobs = 4 })
  t.equal({ peak(log) }, { 4, 8 })
end

tests["a function that ends by its timeout takes no slot with it"] = function()
  local log = t.file ""
  local stage = fz.stage "s"
  stage:register("slow", "A", function()
    local inner <close> = wide(3, function() os.execute "sleep 60" end)
    inner:invoke({ A = 1 }, { jobs = 3 })
  end, { timeout = 0.2 })
  stage:register("late", "A", function()
    os.execute "sleep 0.5"
    local inner <close> = wide(6, leaf(log, 0.05, 3))
    return inner({ A = 1 }, { jobs = 6 }).o1
  end)
  local chain <close> = fz.chain { stage }
  chain:invoke({ A = 1 }, { jobs = 3, on_error = "continue" })
  t.equal(chain.errors.slow.kind, "timeout")
  t.equal(chain.output.late, 1)
  t.equal({ peak(log) }, { 3, 6 })
end

tests["errors and cancelled runs inside give their slots back"] = function()
  local log = t.file ""
  local outer <close> = wide(1, function()
    local bad <close> = wide(4, function() error "bad" end)
    for _ = 1, 3 do
      pcall(bad.invoke, bad, { A = 1 }, { jobs = 4 })
      local sleeps = wide(4, function() os.execute "sleep 60" end)
      local future = sleeps:invoke_async({ A = 1 }, { jobs = 4 })
      future:await(0.02)
      future:cancel()
    end
    local good <close> = wide(8, leaf(log, 0.02, 3))
    return good({ A = 1 }, { jobs = 4 }).o1
  end)
  outer:invoke({ A = 1 }, { jobs = 3 })
  t.equal({ peak(log) }, { 3, 8 })
end

-- Kill one of the workers below a process at random, again and again while a file exists.
local KILLER = [[
workers() {
  children=; read -r children <"/proc/$1/task/$1/children"
  for pid in $children; do
    name=; read -r name <"/proc/$pid/comm"
    case $name in fzlua*) echo $pid;; esac
    workers $pid
  done
}
( while test -e %s; do
    workers %d | shuf -n 1 | xargs -r kill -9
    sleep 0.04
  done ) >/dev/null 2>&1 </dev/null & echo $! ]]

tests["kill -9 of workers at random, two levels deep: all is done, no slot is lost"] = function()
  local log, going = t.file "", t.file ""
  local outer <close> = wide(4, function()
    local inner <close> = wide(4, leaf(log, 0.01, 0))
    return inner({ A = 1 }, { jobs = 4, retries = 1000 }).o4
  end)
  local pipe = assert(io.popen(KILLER:format(going, require "fzlua.core".pid())))
  local killer = pipe:read "n"
  pipe:close()
  for _ = 1, 8 do outer:invoke({ A = 1 }, { jobs = 4, retries = 1000 }) end
  os.remove(going)
  os.execute(("while kill -0 %d 2>/dev/null; do sleep 0.02; done"):format(killer))
  -- Only starts are counted, because a function that is killed notes no end.
  local starts = {}
  for line in io.lines(log) do starts[#starts + 1] = line end
  assert(#starts >= 8 * 16 * 2, #starts)
  local after = t.file ""
  for _ = 1, 3 do nest(2, 4, { jobs = 4 }, leaf(after, 0.01, 4)) end
  t.equal({ peak(after) }, { 4, 48 })
end

local function shown(name)
  return ("${%s-none}"):format(name)
end

local SHOW = ('echo "%s|%s|%s"'):format(shown "MAKEFLAGS", shown "OMP_NUM_THREADS",
  shown "OPENBLAS_NUM_THREADS")

tests["workers get the slots and no threads in their environment, the script does not"] = function()
  local script = t.file(([[
    local chain <close> = fz.chain { (function()
      local stage = fz.stage "s"
      function stage.out(A) return io.popen(A):read "a" .. tostring(os.getenv "MAKEFLAGS") end
      return stage
    end)() }
    local show = %q
    io.write(chain({ A = show }, { jobs = 3 }).out, "\n")
    io.write(chain({ A = show }, { jobs = 0 }).out, "\n")
    io.write(io.popen(show):read "a")]]):format(SHOW))
  local clean = "unset MAKEFLAGS MFLAGS OMP_NUM_THREADS OPENBLAS_NUM_THREADS; "
  local out = t.shell(clean .. '"$FZLUA" ' .. script)
  local flags = " %-j3 %-%-jobserver%-auth=%d+,%d+"
  local none = "none|none|none\n"
  assert(out:find("^" .. flags .. "|1|1\n" .. flags .. "\n" .. none .. "nil\n" .. none .. "$"), out)
  out = t.shell(clean .. 'OMP_NUM_THREADS=7 MAKEFLAGS="k -j9 -- V=1" "$FZLUA" ' .. script)
  assert(out:find "^k  %-j3 %-%-jobserver%-auth=%d+,%d+ %-%- V=1|7|1\n", out)
  assert(out:find "k %-j9 %-%- V=1|7|none\n$", out)
end

local MAKEFILE = [[
N = 1 2 3 4 5 6
all: $(N)
MOST = awk '/[+]/ { if (++n > most) most = n } /-/ { n-- } END { print most + 0 }' $(LOG)
$(N): ; @echo + >> $(LOG); sleep 0.05; \
	i=0; while test $$($(MOST)) -lt $(JOBS) && test $$((i += 1)) -lt 3000; do sleep 0.01; done; \
	echo - >> $(LOG)
.PHONY: all $(N)
]]

tests["make in a function shares the slots"] = function()
  local makefile = t.file(MAKEFILE)
  for jobs = 1, 4, 3 do
    local log = t.file ""
    local chain <close> = wide(3, function()
      return os.execute(("make -s -f %s LOG=%s JOBS=%d"):format(makefile, log, jobs))
    end)
    t.equal(chain({ A = 1 }, { jobs = jobs }).o3, true)
    local most, n = 0, 0
    local now = 0
    for line in io.lines(log) do -- the lines are in the order of time
      now = now + (line:find("+", 1, true) and 1 or -1)
      most, n = math.max(most, now), n + 1
    end
    t.equal({ most, n }, { jobs, 36 })
  end
end

-- A script with functions such as those of leaf(). %q is the log, and %d the number `n`.
local LEAVES = [[
local log, least = %q, %d
local function note(what)
  local file <close> = io.open(log, "a")
  file:setvbuf "no"
  file:write(("%%.9f %%s\n"):format(fz.now(), what))
end
local function is_peak()
  local n, most = 0, 0
  for line in io.lines(log) do
    n = n + (line:find("+", 1, true) and 1 or -1)
    most = math.max(most, n)
  end
  return most >= least
end
local function wide(f)
  local stage = fz.stage "s"
  for i = 1, 4 do stage:register("o" .. i, "A", f) end
  return fz.chain { stage }
end
local outer = wide(function()
  wide(function()
    note "+"
    os.execute "sleep 0.02"
    local deadline = fz.now() + 60
    while not is_peak() and fz.now() < deadline do os.execute "sleep 0.01" end
    note "-"
  end):invoke({ A = 1 }, { jobs = 4 })
end)
outer:invoke({ A = 1 }, { jobs = 4 })]]

tests["fzlua in a function shares the slots"] = function()
  local log = t.file ""
  local script = t.file(LEAVES:format(log, 3))
  local chain <close> = wide(2, function() return t.shell('"$FZLUA" ' .. script) end)
  chain:invoke({ A = 1 }, { jobs = 3 })
  t.equal({ peak(log) }, { 3, 32 })
end

tests["two fzlua under make -j3: never more than 3 at once"] = function()
  local log = t.file ""
  local script = t.file(LEAVES:format(log, 3))
  local makefile = t.file(("all: a b\na b: ; +@$(FZLUA) %s\n.PHONY: all a b\n"):format(script))
  local out, err, status = t.shell("unset MAKEFLAGS MFLAGS MAKELEVEL; make -s -j3 -f " .. makefile)
  t.equal({ out, err, status }, { "", "", 0 })
  t.equal({ peak(log) }, { 3, 32 })
end

-- Run `command` as make would, with three tokens. Returns its status and the number of tokens in
-- the pipe afterwards.
local function under_make(command)
  local out = t.shell(([[
    dir=$(mktemp -d); mkfifo $dir/fifo; exec 9<>$dir/fifo; printf +++ >&9
    export MAKEFLAGS=" -j4 --jobserver-auth=fifo:$dir/fifo"
    (%s) >/dev/null 2>&1 9>&-; status=$?
    n=0
    all() { n=$((n + $(dd bs=9 count=1 iflag=nonblock <&9 2>/dev/null | wc -c))); test $n -ge 3; }
    until_true all; sleep 0.2; all; rm -r $dir
    echo $status $n]]):format(command))
  return out
end

-- Two functions each run a chain of two functions, which sleep. The script waits until all four
-- sleep.
local HOLD = [[
local function wide(n, f)
  local stage = fz.stage "s"
  for i = 1, n do stage:register("o" .. i, "A", f) end
  return fz.chain { stage }
end
local log = %q
local function sleep() io.open(log, "a"):write "x":close() os.execute "sleep 60" end
local future = wide(2, function()
  wide(2, sleep):invoke({ A = 1 }, { jobs = 4 })
end):invoke_async({ A = 1 }, { jobs = 4 })
repeat future:await(0.01) until #io.open(log):read "a" == 4
]]

tests["make gets its tokens back however fzlua ends"] = function()
  local function ends(statement)
    return under_make('"$FZLUA" ' .. t.file(HOLD:format(t.file "") .. statement))
  end
  t.equal(ends "future:cancel()", "0 3\n")
  t.equal(ends "error 'bad'", "1 3\n")
  t.equal(ends "os.exit(3)", "3 3\n")
  t.equal(ends "os.exit(3, true)", "3 3\n")
  -- io.popen, because this process ignores SIGINT while it is in os.execute().
  local kill = "io.popen('kill -%s ' .. io.open '/proc/self/stat':read 'n'):close()"
  local statuses = { TERM = 143, HUP = 129, INT = 130, QUIT = 131, PIPE = 141, USR1 = 138,
    ABRT = 134 }
  for name, status in pairs(statuses) do
    t.equal(ends(kill:format(name) .. " future:await()"), status .. " 3\n")
  end
  -- Further signals, while the process is in C code and does not handle the first one.
  t.equal(ends(("string.rep('x', 10):gsub('x', function() pcall(function() %s end) end)"):format(
    kill:format "INT")), "130 3\n")
end

tests["MAKEFLAGS that name no pipe are ignored"] = function()
  for _, flags in ipairs { "-j3 --jobserver-auth=91,92", "--jobserver-auth=fifo:/nowhere", "x" } do
    local log = t.file ""
    local out, err, status = t.shell(('MAKEFLAGS="%s" "$FZLUA" %s'):format(flags,
      t.file(LEAVES:format(log, 4))))
    t.equal({ out, err, status }, { "", "", 0 })
    t.equal({ peak(log) }, { 4, 16 })
  end
end

tests["jobs = 0 calls one function after another, also where they wait"] = function()
  local order = {}
  local function f(i)
    order[#order + 1] = i
    fz.exec { "true" }
    order[#order + 1] = -i
  end
  fz.map(f, { 1, 2 }, { jobs = 0 })
  local stage = fz.stage "s"
  for i = 3, 4 do stage:register("o" .. i, "A", function() f(i) end) end
  fz.chain { stage }:invoke({ A = 1 }, { jobs = 0 })
  t.equal(order, { 1, -1, 2, -2, 3, -3, 4, -4 })
end

return tests
