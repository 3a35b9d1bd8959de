-- test_exec.lua - other programs: their input, output and end; they leave no process.

local t = ...
local fz = require "fzlua"

local tests = {}

local SLOW = os.getenv "FZLUA_VALGRIND" ~= nil

local function sh(script, options)
  return fz.exec({ "sh", "-c", script }, options)
end

-- How long f() takes.
local function seconds(f)
  local from = fz.now()
  f()
  return fz.now() - from
end

tests["exec returns output and exit code of a program"] = function()
  t.equal(fz.exec { "echo", "one", "t w o" }, { exitcode = 0, stdout = "one t w o\n", stderr = "" })
  t.equal(sh "echo out; echo err >&2; exit 3", { exitcode = 3, stdout = "out\n", stderr = "err\n" })
  t.equal(sh "kill -SEGV $$", { signal = 11, stdout = "", stderr = "" })
end

tests["words reach the program as they are"] = function()
  local words = { "printf", "%s|", "a b", "$HOME", "*", "", "'", '"', "\\", "\n", "\xff\xfe" }
  t.equal(fz.exec(words).stdout, table.concat(words, "|", 3) .. "|")
end

tests["binary bytes go in and come out"] = function()
  local bytes = {}
  for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
  bytes = table.concat(bytes):rep(1000)
  t.equal(fz.exec({ "cat" }, { stdin = bytes }).stdout, bytes)
  t.equal(sh("cat >&2", { stdin = bytes }).stderr, bytes)
end

tests["without input standard input is empty"] = function()
  t.equal(fz.exec { "cat" }.stdout, "")
  t.equal(fz.exec({ "cat" }, { stdin = "" }).stdout, "")
end

tests["large output on both pipes at once"] = function()
  local n = SLOW and 1000000 or 100000000
  local ended = sh(("head -c %d /dev/zero >&2 & head -c %d /dev/zero; wait"):format(n, n))
  t.equal({ #ended.stdout, #ended.stderr, ended.exitcode }, { n, n, 0 })
  assert(not ended.stdout:find "[^\0]" and not ended.stderr:find "[^\0]")
end

tests["large input through cat"] = function()
  local input = ("0123456789abcdef"):rep((SLOW and 1 or 50) << 16)
  assert(fz.exec({ "cat" }, { stdin = input }).stdout == input)
end

tests["a program need not read its input"] = function()
  local input = ("x"):rep(8 << 20)
  t.equal(fz.exec({ "true" }, { stdin = input }).exitcode, 0)
  t.equal(fz.exec({ "head", "-c", "3" }, { stdin = input }).stdout, "xxx")
  t.equal(sh("exec <&-; sleep 0.05; echo on", { stdin = input }).stdout, "on\n")
end

-- Under valgrind posix_spawn does not report the reason of a failure.
if not SLOW then
  tests["a program that is missing raises and is named"] = function()
    local e = t.fails("error", fz.exec, { "no-such-program", "x" })
    t.match(e.message, "cannot run 'no-such-program'", "No such file")
    t.match(t.fails("error", fz.exec, { "/nowhere/x" }).message, "/nowhere/x", "No such file")
    t.match(t.fails("error", fz.exec, { "/tmp" }).message, "/tmp", "Permission denied")
    t.match(t.fails("error", fz.exec, { t.file "" }, {}).message, "Permission denied")
    -- The message shows the reason even after a long name.
    t.match(t.fails("error", fz.exec, { "/" .. ("x"):rep(3000) }).message, "File name too long")
    t.match(t.fails("error", fz.exec, { "" }).message, "cannot run ''")
  end
end

tests["cwd is where it runs, and one that is missing raises"] = function()
  t.equal(fz.exec({ "pwd" }, { cwd = "/usr" }).stdout, "/usr\n")
  local e = t.fails("error", fz.exec, { "true" }, { cwd = "/nowhere/at/all" })
  t.match(e.message, "cannot change to directory '/nowhere/at/all'", "No such file")
end

tests["env adds to the environment, and false takes away"] = function()
  local script = "echo $ONE,${HOME-none},${TWO-none},${PATH:+path}"
  local env = { ONE = "a=b c", HOME = false, NEVER_THERE = false }
  t.equal(sh(script, { env = env }).stdout, "a=b c,none,none,path\n")
  t.equal(sh("echo ${ONE-none}").stdout, "none\n")
  t.equal(fz.exec({ "env", "printenv", "E" }, { env = { E = "" } }).stdout, "\n")
end

tests["the program is looked for in the PATH that env gives it"] = function()
  local dir = os.tmpname()
  os.remove(dir)
  t.shell(("mkdir %s; cd %s; printf '#!/bin/sh\\necho own' >own; chmod +x own"):format(dir, dir))
  local got = fz.exec({ "own" }, { env = { PATH = dir .. ":" .. os.getenv "PATH" } }).stdout
  t.shell("rm -r " .. dir)
  t.equal(got, "own\n")
end

tests["it has default signals and no files of the script's"] = function()
  local path = t.file ""
  local file <close> = assert(io.open(path))
  t.equal(fz.exec { "sh", "-c", "kill -INT $$" }.signal, 2)
  t.equal(fz.exec { "sh", "-c", "kill -PIPE $$" }.signal, 13)
  local open = fz.exec { "ls", "-l", "/proc/self/fd" }.stdout
  t.match(open, "0 -> /dev/null", "1 -> pipe:", "2 -> pipe:")
  assert(not open:find(path, 1, true), file)
end

tests["a program that asks at the terminal fails and does not hang"] = function()
  local script = t.file [[
local ended = fz.exec({"sh", "-c", "read answer </dev/tty || exit 9"}, {timeout = 20})
print(ended and ended.exitcode)]]
  local out =
    t.shell(("NO_COLOR=1 script -qec '\"$FZLUA\" %s' /dev/null </dev/null"):format(script))
  t.match(out, "9")
end

tests["what it left running ends with it and does not keep us waiting"] = function()
  local mark = t.mark()
  local took = seconds(function()
    local ended = sh("setsid sleep 77 & (setsid sh -c 'sleep 78 & sleep 79' &) ; sleep 80 & echo x",
      { env = { MARK = mark } })
    t.equal({ ended.exitcode, ended.stdout }, { 0, "x\n" })
  end)
  assert(took < 40, took)
  t.equal(t.left_of(mark), "")
end

tests["running out of time ends it and all it started, and gives what there is"] = function()
  local mark = t.mark()
  local took = seconds(function()
    local script = "echo begun; echo so far >&2; setsid sleep 77 & (setsid sh -c 'sleep 78 &' &); "
      .. "trap '' TERM INT HUP; sleep 79; sleep 80"
    local ended, why, so_far = sh(script, { env = { MARK = mark }, timeout = 3 })
    t.equal({ ended, why }, { nil, "timeout" })
    t.equal(so_far,
      { signal = 9, stdout = "begun\n", stderr = "so far\n", timed_out = true })
  end)
  assert(took >= 3 and took < 40, took)
  t.equal(t.left_of(mark), "")
end

tests["a timeout that is not reached changes nothing, none at all is over at once"] = function()
  t.equal(fz.exec({ "echo", "x" }, { timeout = 60 }), { exitcode = 0, stdout = "x\n", stderr = "" })
  t.equal({ fz.exec({ "sleep", "77" }, { timeout = 0 }) },
    { nil, "timeout", { signal = 9, stdout = "", stderr = "", timed_out = true } })
  t.equal(fz.exec({ "true" }, { timeout = math.huge }).exitcode, 0)
end

tests["a program that stops itself runs out of time"] = function()
  local _, why = sh("kill -STOP $$", { timeout = 0.2 })
  t.equal(why, "timeout")
end

tests["a supervisor that is killed is an error, and nothing is left"] = function()
  local mark = t.mark()
  local e = t.fails("crash", sh, "setsid sleep 77 & kill -9 $PPID; sleep 78",
    { env = { MARK = mark } })
  t.match(e.message, "supervisor of 'sh'", "SIGKILL")
  t.equal(t.left_of(mark), "")
end

tests["wrong arguments raise at the line of the call"] = function()
  local function wrong(part, ...) t.match(t.wrong(fz.exec, ...), "'fz.exec'", part) end
  wrong "list of strings expected, got no value"
  wrong("list of strings expected, got string", "ls -l")
  wrong("the list is empty", {})
  wrong("the key prog", { "ls", prog = "x" })
  wrong("got fzlua.Stage", fz.stage "s")
  wrong("word 2 of the list is a number, not a string", { "echo", 1 })
  wrong("word 1 of the list has a NUL byte", { "ec\0ho" })
  wrong("no such option", { "true" }, { shell = true })
  wrong("'stdin'", { "true" }, { stdin = 1 })
  wrong("'cwd'", { "true" }, { cwd = "/\0" })
  wrong("'timeout'", { "true" }, { timeout = -1 })
  wrong("'env'", { "true" }, { env = "A=1" })
  wrong("'env.A'", { "true" }, { env = { A = 1 } })
  wrong("'env.A'", { "true" }, { env = { A = "\0" } })
  wrong("'env'", { "true" }, { env = { ["A=B"] = "x" } })
  wrong("'env'", { "true" }, { env = { "A=B" } })
  wrong("#2", { "true" }, "x")
end

tests["the object of a program has a text, and can be closed more than once"] = function()
  local program <close> = require "fzlua.core".exec({ "sleep", "77" }, {})
  t.match(tostring(program), "fzlua.Program: ")
  t.equal(program:done(), false)
  t.match(select(2, pcall(program.result, program)), "is not done")
  program:close()
  program:close()
  t.match(select(2, pcall(program.done, program)), "is closed")
end

tests["many programs, one after the other, leave no descriptor"] = function()
  fz.exec { "true" } -- opens the descriptors that stay open
  local before = t.descriptors()
  for i = 1, SLOW and 5 or 100 do
    t.equal(fz.exec({ "cat" }, { stdin = ("x"):rep(i) }).stdout, ("x"):rep(i))
  end
  pcall(fz.exec, { "no-such-program" })
  fz.exec({ "sleep", "77" }, { stdin = "x", timeout = 0.01 })
  t.equal(t.descriptors(), before)
end

tests["inside a stage's function, while another one runs here"] = function()
  local stage = fz.stage "s"
  for i = 1, 4 do
    stage:register("B" .. i, "A", function(a)
      return fz.exec({ "cat" }, { stdin = a:rep(i << 16) }).stdout
    end)
  end
  local chain <close> = fz.chain({ stage }, { jobs = 3 })
  local future = chain:invoke_async { A = "ab" }
  t.equal(sh("sleep 0.05; echo here").stdout, "here\n")
  local output = future:await()
  for i = 1, 4 do assert(output["B" .. i] == ("ab"):rep(i << 16)) end
  chain:invoke({ A = "c" }, { jobs = 0 })
  t.equal(chain.output.B1, ("c"):rep(1 << 16))
end

tests["a job that runs out of time takes its program with it"] = function()
  local mark = t.mark()
  local stage = fz.stage "s"
  stage:register("B", "A", function()
    return fz.exec({ "sh", "-c", "setsid sleep 77 & sleep 78" }, { env = { MARK = mark } })
  end)
  local chain <close> = fz.chain { stage }
  t.fails("timeout", chain.invoke, chain, { A = 1 }, { timeout = 0.3 })
  t.equal(t.left_of(mark), "")
end

tests["workers forked meanwhile do not hold a program's pipes"] = function()
  local stage = fz.stage "s"
  stage:register("B", "A", function(a) return a end)
  local chain <close> = fz.chain { stage }
  -- cat ends only when no process has the write end of its input open, not even the worker.
  local read = fz.stage "read"
  read:register("C", "A", function() return fz.exec({ "cat" }, { stdin = "x" }).stdout end)
  local outer <close> = fz.chain { read }
  for _ = 1, 5 do
    local future = outer:invoke_async { A = 1 }
    chain:invoke { A = 1 }
    t.equal(future:await().C, "x")
    chain:reset()
  end
end

tests["an error while waiting ends the program"] = function()
  local mark = t.mark()
  local stage = fz.stage "s"
  stage:register("B", "A", function(a) return a end)
  local chain <close> = fz.chain({ stage }, {
    progress = function()
      error(setmetatable({ kind = "interrupted", message = "as by Ctrl-C" }, fz.Error))
    end,
  })
  chain:invoke_async { A = 1 }
  local e = t.fails("interrupted", sh, "setsid sleep 77 & sleep 78", { env = { MARK = mark } })
  t.equal(e.message, "as by Ctrl-C")
  t.equal(t.left_of(mark), "")
end

-- Run a script, and send it `signal` when its program runs. Returns the processes that are left,
-- the output and the status.
local function signalled(signal, code)
  local ready, mark = t.file "", t.mark()
  local script = t.file((code:gsub("READY", ready)))
  local out, _, status = t.shell(([[
MARK=%s env --default-signal=INT "$FZLUA" %s </dev/null & pid=$!
until_true test -s %s
kill -%s $pid; wait $pid]]):format(mark, script, ready, signal))
  return t.left_of(mark), out, status
end

local GRANDCHILDREN = [[
local ok, e = pcall(fz.exec, {"sh", "-c", "setsid sleep 77 & sleep 78 & echo x >READY; sleep 79"})
print(e.kind)
os.exit(7)]]

tests["kill -9 of the command ends the program and its grandchildren"] = function()
  for _ = 1, SLOW and 1 or 5 do
    local left, out, status = signalled("KILL", GRANDCHILDREN)
    t.equal({ left, out, status }, { "", "", 137 })
  end
  t.equal(signalled("KILL", [[
fz.exec({"sh", "-c", "cat >READY; setsid sleep 77 & sleep 78"}, {stdin = "x"})]]), "")
end

tests["Ctrl-C raises in the script and ends the program"] = function()
  local left, out, status = signalled("INT", GRANDCHILDREN)
  t.equal({ left, out, status }, { "", "interrupted\n", 7 })
end

tests["scripts run side by side, results in order"] = function()
  local slow = t.file "os.execute 'sleep 0.2' io.write('slow ', ...)"
  local fast = t.file "io.write('fast ', #arg) io.stderr:write 'said' os.exit(4)"
  local bad = t.file "error 'on purpose'"
  local list = fz.run_scripts { { slow, "a", "b" }, fast, bad, { fast, "-x", "" } }
  t.equal(#list, 4)
  t.equal(list[1], { exitcode = 0, stdout = "slow ab", stderr = "" })
  t.equal(list[2], { exitcode = 4, stdout = "fast 0", stderr = "said" })
  t.equal({ list[3].exitcode, list[3].stdout }, { 1, "" })
  t.match(list[3].stderr, "on purpose")
  t.equal(list[4], { exitcode = 4, stdout = "fast 2", stderr = "said" })
end

tests["no more scripts than jobs at once, and as many"] = function()
  local log = t.file ""
  local script = t.file(([[
local f = io.open(%q, "a") f:write "+" f:flush()
os.execute "sleep 0.1" f:write "-"]]):format(log))
  local function peak(jobs)
    io.open(log, "w"):close()
    local scripts = {}
    for i = 1, 6 do scripts[i] = script end
    for _, ended in ipairs(fz.run_scripts(scripts, { jobs = jobs })) do
      t.equal(ended.exitcode, 0)
    end
    local now, most = 0, 0
    for sign in io.open(log):read("a"):gmatch "." do
      now = now + (sign == "+" and 1 or -1)
      most = math.max(most, now)
    end
    return most
  end
  t.equal(peak(1), 1)
  t.equal(peak(0), 1)
  assert(peak(3) <= 3)
end

tests["a script's timeout is its own"] = function()
  local forever = t.file "io.write 'on' io.flush() while true do end"
  local fine = t.file "io.write 'fine'"
  local limit = SLOW and 20 or 4
  local list = fz.run_scripts({ forever, fine }, { timeout = limit, jobs = 2 })
  t.equal(list[1], { signal = 9, timed_out = true, stdout = "on", stderr = "" })
  t.equal(list[2].stdout, "fine")
end

tests["a script that is missing fails alone; none at all is no error"] = function()
  local list = fz.run_scripts { "/nowhere.lua", t.file "print 'x'" }
  t.equal({ list[1].exitcode, list[2].stdout }, { 1, "x\n" })
  t.match(list[1].stderr, "/nowhere.lua")
  t.equal(fz.run_scripts {}, {})
end

tests["a script may be called anything, and knows its command"] = function()
  local dir = os.tmpname()
  os.remove(dir)
  t.shell(("mkdir %s; cp %s '%s/-e'"):format(dir, t.file "print(arg[0], arg[1])", dir))
  local code = "print(fz.run_scripts{{'-e', 'x'}}[1].stdout)"
  local out = t.shell(("cd %s && \"$FZLUA\" -e \"%s\""):format(dir, code))
  t.shell("rm -r " .. dir)
  t.equal(out, "-e\tx\n\n")
  local script = t.file "io.write(arg[-1])"
  t.equal(t.command("-e", ("io.write(fz.run_scripts{%q}[1].stdout)"):format(script)), t.fzlua)
end

tests["scripts run also when the command's file has been removed"] = function()
  local dir = os.tmpname()
  os.remove(dir)
  local script = t.file "io.write 'still'"
  local code = ("os.remove '%s/own' print(fz.run_scripts{%q}[1].stdout)"):format(dir, script)
  local out = t.shell(("mkdir %s; cp \"$FZLUA\" %s/own; %s/own -e \"%s\"; rm -r %s"):format(dir,
    dir, dir, (code:gsub('"', '\\"')), dir))
  t.equal(out, "still\n")
end

tests["where this is no command, the one in PATH runs scripts"] = function()
  local dir, script = os.tmpname(), t.file "io.write(arg[-1])"
  os.remove(dir)
  local code = t.file(([[
require "fzlua.core".command = nil
print(fz.run_scripts{%q}[1].stdout)
os.remove(%q)
print(pcall(fz.run_scripts, {%q}))]]):format(script, dir .. "/fzlua", script))
  local out = t.shell(('mkdir %s; ln -s "$FZLUA" %s/fzlua; PATH=%s "$FZLUA" %s; rmdir %s'):format(
    dir, dir, dir, code, dir))
  t.match(out, "fzlua\n", SLOW and "" or "cannot run 'fzlua': No such file")
end

tests["many scripts at once"] = function()
  local script, list = t.file "io.write(arg[1])", {}
  local n = SLOW and 4 or 64
  for i = 1, n do list[i] = { script, tostring(i) } end
  local results = fz.run_scripts(list, { jobs = n })
  for i = 1, n do t.equal(results[i], { exitcode = 0, stdout = tostring(i), stderr = "" }) end
end

tests["a script's process is called what the command is"] = function()
  local script = t.file "for line in io.lines '/proc/self/comm' do io.write(line) end"
  t.equal(fz.run_scripts { script }[1].stdout, t.fzlua:match "[^/]*$")
end

tests["scripts run in a stage's function, too"] = function()
  local script = t.file "io.write(arg[1] * 2)"
  local stage = fz.stage "s"
  stage:register("B", "A", function(a)
    local list = fz.run_scripts { { script, tostring(a) }, { script, tostring(a + 1) } }
    return list[1].stdout .. list[2].stdout
  end)
  local chain <close> = fz.chain { stage }
  t.equal(chain { A = 4 }.B, "810")
end

tests["wrong scripts raise at the line of the call"] = function()
  local function wrong(part, ...)
    t.match(t.wrong(fz.run_scripts, ...), "'fz.run_scripts'", part)
  end
  wrong("list of scripts expected, got string", "a.lua")
  wrong("script 2 is empty", { "a", {} })
  wrong("script 1: a name or list of strings expected, got number", { 1 })
  wrong("word 2 of script 1 is a boolean", { { "a", true } })
  wrong("word 1 of script 1 has a NUL", { "a\0" })
  wrong("'jobs'", { "a" }, { jobs = -1 })
  wrong("no such option", { "a" }, { cwd = "/" })
end

tests["an error in the middle ends all scripts"] = function()
  local left, out, status = signalled("INT", [[
local path = os.tmpname()
io.open(path, "w"):write("io.open('READY', 'w'):write('x'):close() while true do end"):close()
local ok, e = pcall(fz.run_scripts, {path, path, path}, {jobs = 2})
os.remove(path)
print(e.kind)
os.exit(7)]])
  t.equal({ left, out, status }, { "", "interrupted\n", 7 })
end

tests["where standard files are closed, nothing of ours takes their place"] = function()
  local script = t.file [[
    local function read() return io.read "a" end
    local got = fz.process(read):start():result() .. fz.pool(1):apply(read) ..
      fz.exec({ "cat" }).stdout .. fz.exec({ "readlink", "/proc/self/fd/0" }).stdout
    io.open(..., "w"):write(got)]]
  local out = t.file ""
  for _, closed in ipairs { "<&-", "<&- >&- 2>&-" } do
    t.shell(('"$FZLUA" %s %s %s'):format(script, out, closed))
    t.equal(io.open(out):read "a", "/dev/null\n")
    io.open(out, "w"):close()
  end
end

return tests
