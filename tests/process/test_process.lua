-- test_process.lua - fz.process: start, join, exit codes, results, and every way to end.

local t = ...
local core = require "fzlua.core"

local tests = {}

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

local function forever()
  while true do os.execute "sleep 1" end
end

local started = t.start

-- Start a process that must fail with an error of this kind and end with this exit code.
local function fails(kind, code, f, ...)
  local p <close> = started(f, ...)
  local e = t.fails(kind, p.result, p)
  t.equal(p:join(30), true)
  t.equal(p.exitcode, code)
  t.equal(e.pid, p.pid)
  return e, p
end

tests["all that f returns arrives, nils and shared tables included"] = function()
  local p <close> = started(function(...)
    local shared = { 1 }
    return select("#", ...), nil, shared, { shared }, nil
  end, nil, 2, nil)
  local r = table.pack(p:result())
  t.equal(r.n, 5)
  t.equal({ r[1], r[2], r[4][1], r[5] }, { 3, nil, { 1 }, nil })
  assert(r[3] == r[4][1])
  t.equal(table.pack(p:result(30)).n, 5)
  assert(p:result() == 3 and select(3, p:result()) == r[3])
  t.equal(p:join(), true)
  t.equal(p.exitcode, 0)
end

tests["a function that returns nothing has no results"] = function()
  local p <close> = started(function() end)
  t.equal(select("#", p:result()), 0)
  t.equal(p:join(), true)
  t.equal(p.exitcode, 0)
end

tests["arguments are inherited: what cannot be sent is no matter"] = function()
  local co = coroutine.wrap(function() coroutine.yield "from before" end)
  local file <close> = io.tmpfile()
  file:write "there"
  file:flush()
  local p <close> = started(function(f, handle, list)
    handle:seek "set"
    list[1] = "changed"
    return f(), handle:read "a"
  end, co, file, { "kept" })
  t.equal({ p:result() }, { "from before", "there" })
end

tests["many arguments and many results"] = function()
  local args = {}
  for i = 1, 5000 do args[i] = i end
  local p <close> = started(function(...) return ... end, table.unpack(args))
  t.equal({ p:result() }, args)
end

tests["100 MB come back whole, and join alone does not hang on them"] = function()
  local p <close> = started(function() return ("fzlua"):rep(20 << 20), "end" end)
  t.equal(p:join(30), true)
  local text, last = p:result()
  t.equal({ #text, last, text:sub(-7) }, { 100 << 20, "end", "uafzlua" })
end

tests["fifty at once, each with random numbers of its own"] = function()
  local list, seen = {}, {}
  for i = 1, 50 do
    list[i] = started(function(n) return n, math.random(0), fz.current_process().pid end, i)
  end
  for i, p in ipairs(list) do
    local n, random, pid = p:result()
    t.equal({ n, pid }, { i, p.pid })
    assert(not seen[random], "the same random number twice")
    seen[random] = true
  end
  for _, p in ipairs(list) do
    t.equal(p:join(), true)
    t.equal(p.exitcode, 0)
  end
  t.equal(fz.active_children(), {})
end

tests["a wait for a process serves other runs"] = function()
  local stage, last = fz.stage "s", fz.event()
  for i = 1, 3 do
    stage:register("o" .. i, "A", function(a)
      if i == 3 then last:set() end
      return a + i
    end)
  end
  local chain <close> = fz.chain({ stage }, { jobs = 1 })
  local future = chain:invoke_async { A = 1 }
  local p <close> = started(function() return last:wait() end)
  t.equal(p:join(30), true)
  t.equal(future:await().o3, 4)
end

tests["an error is raised by result, with traceback and cause"] = function()
  local function inner() error { code = 7 } end
  local e = fails("error", 1, function() inner() return 1 end)
  t.equal(e.cause, { code = 7 })
  t.match(e.traceback, "stack traceback:", "test_process.lua", "inner")
  e = fails("error", 1, function() error "boom" end)
  t.match(e.message, "test_process.lua:", "boom")
  local text = tostring(e)
  assert(text:sub(-#e.traceback) == e.traceback)
  assert(not e.traceback:find("?", 1, true), e.traceback)
end

tests["any value that is raised arrives, and each time the same"] = function()
  for _, value in ipairs { 42, "text", print, io.stdout, coroutine.create(print) } do
    fails("error", 1, function() error(value, 0) end)
  end
  fails("error", 1, function() error() end)
  local p <close> = started(function() error "once" end)
  local _, first = pcall(p.result, p)
  local _, second = pcall(p.result, p, 0)
  assert(first == second)
end

tests["an error is written to standard error, whole, under the name of the process"] = function()
  local out, err, status = t.command("-e", [[
local p = fz.process(function() local function inner() error "boom" end inner() end)
p.name = "loader"
p:start()
p:join()
print(p.exitcode)]])
  t.equal({ out, status }, { "1\n", 0 })
  t.match(err, 'loader: (command line):1: boom\nstack traceback:\n\t[C]: in function \'error\'\n',
    "in local 'inner'")
  local _, times = err:gsub("boom", "")
  t.equal(times, 1)
end

tests["an unsendable result says which and where, on standard error, too"] = function()
  local e = fails("unsendable", 1, function() return 1, { rows = { { file = io.tmpfile() } } } end)
  t.equal(e.message, "result 2: .rows[1].file: a FILE* cannot be sent")
  t.equal(e.result, 2)
  e = fails("unsendable", 1, function() return coroutine.create(print) end)
  t.equal(e.message, "result 1: a coroutine cannot be sent")
  local _, err = t.command("-e", "fz.process(function() return {io.tmpfile()} end):start()")
  t.equal(err, "Process-1: result 1: [1]: a FILE* cannot be sent\n")
end

tests["a class that raises when it is sent is the function's error"] = function()
  local Bad = fz.register_class("process.Bad", { __fzpack = function() error "no way" end })
  local e = fails("error", 1, function() return setmetatable({}, Bad) end)
  t.match(e.message, "no way")
end

tests["os.exit is its exit code, and no result"] = function()
  for code, arg in pairs { [0] = true, [1] = false, [7] = 7, [255] = 255 } do
    local e = fails("crash", code, function() os.exit(arg, true) end)
    t.equal(e.exitcode, code)
    t.match(e.message, "the process died: exited with code " .. code)
  end
end

tests["a signal is a negative exit code and a crash"] = function()
  for name, number in pairs { KILL = 9, TERM = 15, SEGV = 11, USR1 = 10 } do
    local e = fails("crash", -number, function()
      os.execute(("kill -%s %d"):format(name, core.pid()))
      forever()
    end)
    t.equal(e.signal, number)
    t.match(e.message, "SIG" .. name)
  end
end

tests["join and result run out with nil, timeout, and may be asked again"] = function()
  local go = fz.event()
  local p <close> = started(function() return go:wait(60) and 5 end)
  for _, seconds in ipairs { 0, 0.01 } do
    t.equal({ p:join(seconds) }, { nil, "timeout" })
    t.equal({ p:result(seconds) }, { nil, "timeout" })
  end
  t.equal({ p:is_alive(), p.exitcode }, { true, nil })
  go:set()
  t.equal(p:result(10), 5)
  t.equal({ p:join(10) }, { true })
  t.equal({ p:join(0) }, { true })
  t.equal({ p:is_alive(), p.exitcode }, { false, 0 })
end

tests["terminate is SIGTERM, kill is SIGKILL, and result raises both"] = function()
  for method, number in pairs { terminate = 15, kill = 9 } do
    local p <close> = started(forever)
    t.equal(p:is_alive(), true)
    p[method](p)
    local e = t.fails("crash", p.result, p)
    t.equal({ p:join(), p.exitcode, e.signal }, { true, -number, number })
    p:terminate()
    p:kill()
    t.equal(p.exitcode, -number)
  end
end

tests["a signal just after the start is a crash, too"] = function()
  for _ = 1, 20 do
    local p <close> = started(forever)
    p:terminate()
    t.equal(t.fails("crash", p.result, p).signal, 15)
  end
end

tests["a stopped process is ended by kill and by terminate"] = function()
  for method, number in pairs { terminate = 15, kill = 9 } do
    local p <close> = started(forever)
    os.execute("kill -STOP " .. p.pid)
    t.equal({ p:join(0.05) }, { nil, "timeout" })
    p[method](p)
    t.equal({ p:join(30) }, { true })
    t.equal(p.exitcode, -number)
  end
end

tests["one that is killed while its result is awaited fails it at once"] = function()
  local p <close> = started(forever)
  local _ <close> = started(os.execute, "sleep 0.1; kill -9 " .. p.pid)
  local start = fz.now()
  local e = t.fails("crash", p.result, p)
  t.equal(e.signal, 9)
  t.match(e.message, "killed by signal 9 (SIGKILL)")
  assert(fz.now() - start < 20)
end

tests["the result of a process is kept if it is killed afterwards"] = function()
  local p <close> = started(function()
    started(forever)
    return "done"
  end)
  t.equal(p:result(), "done")
  t.equal(p:is_alive(), true) -- the process waits for its own child
  p:kill()
  t.equal(p:join(), true)
  t.equal({ p:result(), p.exitcode }, { "done", -9 })
end

tests["what it has started ends with it"] = function()
  for _, how in ipairs { "terminate", "kill", "return" } do
    local path = t.file ""
    local p <close> = started(function()
      os.execute("sleep 78 & echo $! > " .. path)
      if how ~= "return" then forever() end
    end)
    local pid
    t.until_true(function()
      for line in io.lines(path) do pid = tonumber(line) end
      return pid
    end)
    if how ~= "return" then p[how](p) end
    t.equal(p:join(30), true)
    t.until_true(function() return not t.is_running(pid) end)
  end
end

tests["names count up, may be given, and are seen inside"] = function()
  local a, b = fz.process(print), fz.process(fz.current_process)
  local n = tonumber(a.name:match "^Process%-(%d+)$")
  t.equal(b.name, "Process-" .. n + 1)
  b.name = "loader"
  t.match(b, "fzlua.Process (loader, not started)")
  b:start()
  t.match(b, "loader", b.pid)
  t.equal(b:result(), { name = "loader", pid = b.pid })
  b:join()
  t.match(b, "exit code 0")
  local c = started(function() return fz.current_process().name end)
  t.equal(c:result(), c.name)
  c:join()
end

tests["the script is MainProcess, a worker has a name of its own"] = function()
  t.equal(fz.current_process(), { name = "MainProcess", pid = core.pid() })
  local stage = fz.stage "s"
  stage:register("o", {}, fz.current_process)
  local chain <close> = fz.chain { stage }
  local inside = chain:invoke().output.o
  t.equal(inside.name, "Worker-" .. inside.pid)
  assert(inside.pid ~= core.pid())
  t.equal(chain:invoke({}, { jobs = 0 }).output.o, fz.current_process())
  -- The first call of fz.current_process() may be in the worker.
  local out = t.command("-e", [[
local s = fz.stage "s"
s:register("o", {}, function() return fz.current_process().name end)
print(fz.chain { s }:invoke().output.o)]])
  t.match(out, "Worker-")
end

tests["processes of a process have its number before theirs"] = function()
  local p <close> = started(function()
    local a, b = fz.process(fz.current_process):start(), fz.process(print)
    return a:result().name, b.name
  end)
  local a, b = p:result()
  t.equal({ a, b }, { p.name .. ":1", p.name .. ":2" })
end

tests["fields have types, and are settled by the start"] = function()
  local p <close> = fz.process(forever)
  t.equal({ p.daemon, p.pid, p.exitcode, p:is_alive(), p.nothing }, { false, nil, nil, false })
  t.match(t.wrong(function() p.name = 5 end), "bad value for 'name'", "string expected, got number")
  t.match(t.wrong(function() p.daemon = 1 end), "bad value for 'daemon'", "boolean expected")
  t.match(t.wrong(function() p.deamon = true end), "cannot set 'deamon'")
  t.match(t.wrong(function() p.pid = 1 end), "cannot set 'pid'")
  p.daemon = true
  p.name = "d"
  p:start()
  t.equal({ p.daemon, p.name }, { true, "d" })
  t.match(t.fails("error", function() p.daemon = false end),
    "cannot set 'daemon' of d: it was started")
  t.match(t.fails("error", function() p.name = "e" end), "cannot set 'name' of d: it was started")
  p:kill()
end

tests["wrong use raises at the user's line"] = function()
  t.match(t.wrong(function() fz.process() end), "bad argument #1 to 'fz.process'",
    "function expected, got no value")
  t.match(t.wrong(function() fz.process { target = print } end), "function expected, got table")
  local p <close> = fz.process(function() end)
  for _, method in ipairs { "join", "result", "terminate", "kill" } do
    t.match(t.fails("error", p[method], p), p.name .. " was not started")
  end
  t.match(t.wrong(function() p.start() end), "'start'", "write p:start")
  t.match(t.wrong(function() p.join(5) end), "'join'", "write p:join")
  p:start()
  t.match(t.fails("error", p.start, p), p.name .. " was started before")
  t.match(t.wrong(function() p:join "soon" end), "bad argument #1 to 'process:join'")
  t.match(t.wrong(function() p:result(-1) end), "bad argument #1 to 'process:result'")
  p:join()
end

tests["active_children lists the running processes in order, without ended ones"] = function()
  local a <close> = started(forever)
  local b <close> = started(function() end)
  local c <close> = fz.process(print)
  assert(fz.active_children()[1] == a)
  t.until_true(function() return #fz.active_children() == 1 end)
  t.equal(b:is_alive(), false)
  local d <close> = started(forever)
  local list = fz.active_children()
  assert(#list == 2 and list[1] == a and list[2] == d)
  list[1] = nil -- the list is a copy for the caller
  assert(fz.active_children()[1] == a and c.pid == nil)
  a:kill()
  a:join()
  assert(#fz.active_children() == 1)
  d:kill()
end

tests["a process that is not joined leaves no zombie after the next start"] = function()
  for _ = 1, 20 do started(function() end) end
  t.until_true(function() return #fz.active_children() == 0 end)
  t.equal(t.children(), "")
end

tests["a parent's process cannot be used in a child, and is not its child"] = function()
  local p <close> = started(forever)
  local never = fz.process(print)
  local function try()
    local said = {}
    for i, use in ipairs {
      function() p:join() end, function() p:kill() end, function() p:terminate() end,
      function() p:result() end, function() p:is_alive() end, function() p:close() end,
      function() return p.pid end, function() return p.exitcode end,
      function() never:start() end, function() never.daemon = true end,
    } do
      local ok, message = pcall(use)
      said[i] = not ok and message
    end
    return said, p.name, tostring(p), #fz.active_children()
  end
  local child <close> = started(try)
  local stage = fz.stage "s"
  stage:register({ "a", "b", "c", "d" }, {}, try)
  local chain <close> = fz.chain { stage }
  local out = chain:invoke().output
  for _, got in ipairs { { child:result() }, { out.a, out.b, out.c, out.d } } do
    t.equal(#got[1], 10)
    for _, message in ipairs(got[1]) do
      t.match(message, "belongs to process " .. core.pid())
    end
    t.equal({ got[2], got[4] }, { p.name, 0 })
    t.match(got[3], "of process " .. core.pid())
  end
  t.equal(p:is_alive(), true)
  p:kill()
end

tests["processes, chains and processes of workers go inside each other"] = function()
  local function chain_in(n)
    local stage = fz.stage "s"
    stage:register("a", "x", function(x) return x + 1 end)
    stage:register("b", "x", function(x)
      local p <close> = started(function(y) return y * 2 end, x)
      return (p:result())
    end)
    local chain <close> = fz.chain { stage }
    local out = chain { x = n }
    return out.a + out.b
  end
  local p <close> = started(function()
    local q <close> = started(chain_in, 10)
    return q:result() + chain_in(1)
  end)
  t.equal(p:result(), 31 + 4)
  t.equal(p:join(), true)
  t.equal(p.exitcode, 0)
end

tests["a pool goes inside a process, and processes inside its workers"] = function()
  local p <close> = started(function()
    local pool <close> = fz.pool(2)
    return pool:map(function(x)
      local q <close> = started(function() return x * x end)
      return (q:result())
    end, { 1, 2, 3 })
  end)
  local list = p:result()
  t.equal({ list[1], list[2], list[3] }, { 1, 4, 9 })
  t.equal(p:join(), true)
  t.equal(p.exitcode, 0)
end

tests["a process waits for its own at its end, not for daemons, nor after an error"] = function()
  for _, case in ipairs { "waits", "daemon", "raises" } do
    local waits, daemon, raises = case == "waits", case == "daemon", case == "raises"
    local path, go = t.file "", t.file ""
    os.remove(path)
    os.remove(go)
    local p <close> = started(function()
      local q = fz.process(function()
        local wait = waits and "until test -e %s; do sleep 0.01; done" or "sleep 60"
        os.execute(wait:format(go))
        io.open(path, "w"):close()
      end)
      q.daemon = daemon
      q:start()
      if raises then error("on purpose", 0) end
      return "early"
    end)
    if not raises then t.equal(p:result(), "early") end
    if waits then
      t.equal(p:is_alive(), true)
      io.open(go, "w"):close()
    end
    t.equal(p:join(30), true)
    t.equal(exists(path), waits)
    t.equal(p.exitcode, raises and 1 or 0)
    os.remove(path)
  end
end

tests["an error at its end is reported, and the result stays"] = function()
  local p = core.process("odd", 1, function() error("late", 0) end, function() end,
    function() return 5 end)
  t.until_true(function()
    core.poll()
    return p:done()
  end)
  t.equal({ p:result() }, { true, 5 })
  t.equal(p:exitcode(), 1)
end

tests["close ends it, drops the result and is closed"] = function()
  local p = started(forever)
  local pid = p.pid
  p:close()
  p:close()
  t.equal({ p.pid, p.exitcode, p:is_alive() }, { pid, -9, false })
  t.equal(t.is_running(pid), false)
  t.equal(fz.active_children(), {})
  for _, method in ipairs { "start", "join", "result", "terminate", "kill" } do
    t.match(t.fails("closed", p[method], p), p.name .. " is closed")
  end
  local q = started(function() return ("x"):rep(1 << 20) end)
  t.equal(#q:result(), 1 << 20)
  q:close()
  t.match(t.fails("closed", q.result, q), "is closed")
  fz.process(print):close()
end

tests["a scope that ends normally joins, one that ends by an error kills"] = function()
  local path = t.file ""
  local kept
  do
    local p <close> = started(function()
      os.execute "sleep 0.2"
      io.open(path, "w"):write("done"):close()
    end)
    kept = p
  end
  t.equal(io.open(path):read "a", "done")
  t.equal(kept.exitcode, 0)
  local start = fz.now()
  t.equal({ pcall(function()
    local p <close> = started(forever)
    kept = p
    error("out", 0)
  end) }, { false, "out" })
  t.equal(kept.exitcode, -9)
  assert(fz.now() - start < 20)
end

tests["one that runs is not collected, one that was never started is"] = function()
  local path = t.file ""
  os.remove(path)
  local weak = setmetatable({}, { __mode = "k" })
  weak[started(function()
    os.execute "sleep 0.2"
    io.open(path, "w"):close()
  end)] = "running"
  weak[fz.process(print)] = "never"
  collectgarbage()
  collectgarbage()
  local kept = {}
  for _, what in pairs(weak) do kept[#kept + 1] = what end
  t.equal(kept, { "running" })
  t.until_true(function() return exists(path) end)
  t.until_true(function() return #fz.active_children() == 0 end)
  collectgarbage()
  collectgarbage()
  t.equal(next(weak), nil)
  os.remove(path)
end

tests["a start releases the function and its arguments"] = function()
  local weak = setmetatable({}, { __mode = "v" })
  local p <close> = (function()
    local big = { "big" }
    weak[1] = big
    return started(forever, big)
  end)()
  collectgarbage()
  collectgarbage()
  t.equal(weak[1], nil)
  p:kill()
end

tests["output comes whole lines at a time, never twice, never lost"] = function()
  local out = t.command("-e", [[
io.stdout:setvbuf "full"
io.write "before "
local list = {}
for i = 1, 4 do
  list[i] = fz.process(function()
    for n = 1, 2000 do io.write(("p%d %04d %s\n"):format(i, n, ("x"):rep(60))) end
    io.write "last"
    if i == 4 then os.execute("kill -9 $PPID") end
  end):start()
end
for _, p in ipairs(list) do p:join() end
io.write "after\n"]])
  t.equal(out:sub(1, 7), "before ")
  t.equal(select(2, out:gsub("before", "")), 1)
  t.equal(select(2, out:gsub("last", "")), 4)
  local next_line = { 1, 1, 1, 1 }
  for i, n in out:gmatch "p(%d) (%d%d%d%d) x+\n" do
    t.equal(tonumber(n), next_line[tonumber(i)])
    next_line[tonumber(i)] = tonumber(n) + 1
  end
  t.equal(next_line, { 2001, 2001, 2001, 2001 })
end

-- Code that starts a process which sleeps and prints "finished", and then `ending`.
local function with_process(seconds, daemon, ending)
  return ([[
local p = fz.process(function()
  os.execute "sleep %g"
  print "finished"
end)
p.daemon = %s
p:start()
p = nil
%s]]):format(seconds, daemon, ending)
end

-- Run the code of with_process(). Returns its output, the processes that are left, and its status.
local function run_with_process(...)
  local mark = t.mark()
  local out, _, status = t.shell(('MARK=%s "$FZLUA" %s </dev/null'):format(
    mark, t.file(with_process(...))))
  return out, t.left_of(mark), status
end

tests["the command waits for processes, but not for daemons"] = function()
  t.equal({ run_with_process(0.4, false, "") }, { "finished\n", "", 0 })
  t.equal({ run_with_process(60, true, "") }, { "", "", 0 })
end

tests["an uncaught error and os.exit end all processes"] = function()
  for ending, status in pairs {
    ["error 'uncaught'"] = 1, ["os.exit(3)"] = 3, ["os.exit(4, true)"] = 4,
  } do
    t.equal({ run_with_process(60, false, ending) }, { "", "", status })
  end
end

tests["Ctrl-C while it waits at the end ends all, with one line"] = function()
  t.equal({ t.interrupt(with_process(60, false,
    "fz.process(function() while true do end end):start() ready()")) },
    { "", "fzlua: interrupted\n", 130 })
end

tests["kill -9 of the command ends its processes and what these started"] = function()
  for _, nested in ipairs { "forever", "function() fz.process(forever):start() forever() end" } do
    local mark = t.mark()
    local script = t.file(([[
local function forever() os.execute "setsid sleep 77 & sleep 78" end
for _ = 1, 3 do fz.process(%s):start() end]]):format(nested))
    t.shell(([[
unset MARK; MARK=%s "$FZLUA" %s >/dev/null 2>&1 </dev/null & pid=$!
sleep 0.3; kill -9 $pid; wait $pid]]):format(mark, script))
    t.equal(t.left_of(mark), "")
  end
end

tests["exit codes are exact in a command that was started with SIGCHLD ignored"] = function()
  local out = t.shell [[env --ignore-signal=CHLD "$FZLUA" -e '
for _, f in ipairs { function() return 1 end, function() os.exit(3) end } do
  local p = fz.process(f):start()
  print(p:join(30), p.exitcode, (pcall(p.result, p)))
end' </dev/null]]
  t.equal(out, "true\t0\ttrue\ntrue\t3\tfalse\n")
end

tests["a process that is closed by another task: join and result return"] = function()
  for _, how in ipairs { "join", "result" } do
    local p = started(os.execute, "sleep 1000")
    local waiting = fz.spawn(p[how], p)
    fz.sleep(0.01)
    p:close()
    local ok, e = pcall(waiting.await, waiting)
    t.equal(ok, how == "join")
    t.match(e, how == "join" and "true" or "the process was closed")
    t.equal(p.exitcode, -9)
  end
end

return tests
