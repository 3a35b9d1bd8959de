-- test_signals.lua - Ctrl-C and Ctrl-Z end or stop the command and all processes below it.

local t = ...
local tests = {}

-- Start the command with `code`. When the code has reported that it is ready, send SIGINT.
local function interrupt(code, times)
  local script, ready = t.file(code), t.file ""
  os.remove(ready)
  return t.shell(([[
READY=%s env --default-signal=INT "$FZLUA" %s & pid=$!
until_true test -e %s
for i in %s; do sleep 0.1; kill -INT $pid; done
until_true is_gone $pid
kill -9 $pid 2>/dev/null
wait $pid; status=$?; rm -f %s; exit $status]]):format(ready, script, ready,
    times == 2 and "1 2" or "1", ready))
end

local READY = "local function ready() io.open(os.getenv 'READY', 'w'):close() end\n"

tests["Ctrl-C in Lua code: one line and status 130"] = function()
  local _, err, status = interrupt(READY .. "ready() while true do end")
  t.equal({ status, err }, { 130, "fzlua: interrupted\n" })
end

tests["Ctrl-C in a wait: one line and status 130, no worker is left"] = function()
  local _, err, status = interrupt(READY .. [[
local s = fz.stage "s"
s:register("A", function() ready() while true do end end)
fz.chain({s}):invoke{A = 1}]])
  t.equal({ status, err }, { 130, "fzlua: interrupted\n" })
end

tests["Ctrl-C can be caught, then the status is the script's"] = function()
  local out, _, status = interrupt(READY .. [[
local s = fz.stage "s"
s:register("A", function() ready() while true do end end)
local chain = fz.chain({s})
local ok, e = pcall(chain.invoke, chain, {A = 1})
print(ok, e.kind, getmetatable(e) == fz.Error)
s:register("A", function(a) return a end)
print(chain{A = 5}.A)
os.exit(9)]])
  t.equal({ out, status }, { "false\tinterrupted\ttrue\n5\n", 9 })
end

tests["Ctrl-C in a function that runs in this process is interrupted too"] = function()
  local _, err, status = interrupt(READY .. [[
local s = fz.stage "s"
s:register("A", function() ready() while true do end end)
fz.chain({s}):invoke({A = 1}, {jobs = 0})]])
  t.equal({ status, err }, { 130, "fzlua: interrupted\n" })
end

tests["Ctrl-C in a coroutine is interrupted too"] = function()
  local _, err, status = interrupt(READY .. [[
coroutine.wrap(function() ready() while true do end end)()]])
  t.equal({ status, err }, { 130, "fzlua: interrupted\n" })
end

tests["a second Ctrl-C ends it at once"] = function()
  local _, _, status = interrupt(READY .. [[
ready()
while true do pcall(function() while true do end end) end]], 2)
  t.equal(status, 130)
end

-- Run `code` while the pipe at standard output is full. When the command has written a line to
-- standard error and sleeps in its next write, it gets SIGINT, and then the pipe is read. Returns
-- the last line of the pipe, the text on standard error after that line, and the status.
local function interrupt_write(code)
  local script, status = t.file([[
io.stdout:setvbuf("full", 4096)
for _ = 1, 16 do io.stdout:write(("x"):rep(4096)) end
io.stdout:flush()
]] .. code), t.file ""
  local names = { FIFO = script .. ".fifo", SCRIPT = script, ERR = script .. ".err",
    PID = script .. ".pid", STATUS = status }
  local out, err = t.shell(([[
mkfifo FIFO || exit
{ env --default-signal=INT "$FZLUA" -j1 SCRIPT 2>ERR & pid=$!; echo $pid >PID
  wait $pid; echo $? >STATUS; } >FIFO &
{ until_true eval 'grep -q ready ERR && grep -q ^State:.S /proc/$(cat PID)/status'
  sleep 0.1; kill -INT $(cat PID); sleep 0.1; tail -n 1; } <FIFO
wait; cat ERR >&2; rm FIFO ERR PID]]):gsub("%u%u%u+", names))
  return out, err:gsub("^.-ready\n", ""), io.open(status):read "n"
end

tests["Ctrl-C behind the end of the script loses no output"] = function()
  for _, ending in ipairs { "os.exit(3, true)", "os.exit(3)", "" } do
    local out, err, status = interrupt_write(
      [[io.stdout:write "\nthe last line\n" io.stderr:write "ready\n" ]] .. ending)
    t.equal({ out, err, status }, { "the last line\n", "", ending == "" and 0 or 3 })
  end
end

tests["Ctrl-C in the write of what a worker prints is raised as such, once"] = function()
  local _, err, status = interrupt_write [[
local function talk() io.write "line\n" end
io.stderr:write "ready\n"
io.stderr:write(select(2, pcall(fz.map, talk, { 1 })).kind, "\n")
io.stderr:write(table.concat(fz.map(function(x) return x end, { 2 })), "\n")]]
  t.equal({ err, status }, { "interrupted\n2\n", 0 })
end

tests["Ctrl-C in a finalizer is raised there, and the loop is closed only then"] = function()
  local out, err, status = interrupt(READY .. [[
kept = setmetatable({}, { __gc = function()
  local event = fz.event()
  ready()
  print(pcall(event.wait, event, 20))
end })
os.exit(4, true)]])
  t.match(out, "false\tinterrupted")
  t.equal({ err, status }, { "", 4 })
end

-- The state of a process: "T" if it is stopped.
local function state_of(pid)
  local file <close> = io.open(("/proc/%d/stat"):format(pid))
  return file and file:read("a"):match "^.*%) (%a)"
end

-- Run the command in a process group whose parent could continue it, as a shell does: the kernel
-- does not stop other groups. Returns the process, a function that returns the noted pids by name,
-- and the file with the output.
local function start_in_group(code)
  local pids, out = t.file "", t.file ""
  local script = t.file(([[
function note(name) -- write the pid of this process
  io.open(%q, "a"):write(name, " ", io.open("/proc/self/stat"):read "n", "\n"):close()
end
PIDS = %q
note "command"
]]):format(pids, pids) .. code)
  local process = fz.process(os.execute, ("exec %s %s >%s"):format(t.fzlua, script, out))
  process:start()
  local function read()
    local found = {}
    for line in io.lines(pids) do
      local name, pid = line:match "^(%S+) (%d+)$"
      if name then found[name] = tonumber(pid) end
    end
    return found
  end
  return process, read, out
end

tests["Ctrl-Z stops the workers and what they started, and no timeout passes meanwhile"] =
function()
  local go = t.file ""
  os.remove(go)
  local process, read, out = start_in_group(([[
local s = fz.stage "s"
s:register("A", {"step"}, function(step)
  if step == 1 then
    p = fz.process(function() note "inner" while true do end end)
    p:start()
    os.execute("setsid sh -c 'echo program $$ >>" .. PIDS .. "; exec sleep 77' &")
    return
  end
  note "worker"
  while not io.open(%q) do end
  p:terminate()
  return "done"
end)
local chain = fz.chain({s})
chain({step = 1})                       -- no timeout: it may take long on a busy machine
print(chain({step = 2}, {timeout = 5}).A)]]):format(go))
  local pids
  t.until_true(function()
    pids = read()
    return pids.worker and pids.inner and pids.program
  end)
  os.execute(("kill -TSTP %d"):format(pids.command))
  local until_stopped = fz.now() + 6
  for _, name in ipairs { "command", "worker", "inner", "program" } do
    t.until_true(function() return state_of(pids[name]) == "T" end)
  end
  t.until_true(function() return fz.now() > until_stopped end)
  io.open(go, "w"):close()
  os.execute(("kill -CONT %d"):format(pids.command))
  process:join()
  os.remove(go)
  t.equal(io.open(out):read "a", "done\n")
  for name, pid in pairs(pids) do
    assert(not t.is_running(pid), name .. " is left")
  end
end

tests["a stopped command that is killed leaves no worker"] = function()
  local process, read = start_in_group [[
fz.pool(1):apply(function() note "worker" while true do end end)]]
  t.until_true(function() return read().worker end)
  local pids = read()
  os.execute(("kill -TSTP %d"):format(pids.command))
  t.until_true(function() return state_of(pids.worker) == "T" end)
  os.execute(("kill -KILL %d"):format(pids.command))
  process:join()
  t.until_true(function() return not t.is_running(pids.worker) end)
end

return tests
