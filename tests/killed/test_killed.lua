-- test_killed.lua - the script or a worker is killed at any time: no process is left, and a worker
-- that is killed fails one job only.

local t = ...
local core = require "fzlua.core"
local fz = require "fzlua"

local tests = {}

-- Run a command, and kill it by SIGKILL after `delay` seconds. Returns the processes that are left.
local function killed(command, delay)
  local mark = t.mark()
  t.shell(([[
unset MARK; MARK=%s %s >/dev/null 2>&1 </dev/null & pid=$!
sleep %g; kill -9 $pid; wait $pid]]):format(mark, command, delay))
  return t.left_of(mark)
end

local GRANDCHILDREN = [[
local s = fz.stage "s"
for i = 1, 4 do
  s:register("o" .. i, "A", function()
    os.execute "setsid sleep 77 & sleep 78"
  end)
end
fz.chain({ s }, { jobs = 4 }):invoke { A = 1 }]]

tests["kill -9 of the command ends workers and their children, setsid or not"] = function()
  local script = t.file(GRANDCHILDREN)
  for _, delay in ipairs { 0.02, 0.1, 0.3 } do
    t.equal(killed(('"$FZLUA" %s'):format(script), delay), "")
  end
end

tests["kill -9 of the command in the middle of an example leaves nothing"] = function()
  for _, name in ipairs { "packages", "stages", "primes", "model", "diamond" } do
    for _, delay in ipairs { 0.01, 0.04 } do
      t.equal(killed(('"$FZLUA" examples/%s.lua'):format(name), delay), "")
    end
  end
end

local CRASH = [[
local s = fz.stage "s"
s:register("o", "A", function(pid)
  os.execute "setsid sleep 77 & sleep 78 & (setsid sh -c 'sleep 79 & sleep 80' &)"
  os.execute(pid)
end)
local chain = fz.chain { s }
for _, how in ipairs { "kill -9 $PPID", "kill -SEGV $PPID", "exit 0" } do
  print(pcall(chain.invoke, chain, { A = how }, { timeout = 5 }))
end
chain:close()
io.open(%q, "w"):close()
local start = fz.now()
while fz.now() < start + 5 do end]]

tests["a worker that crashes takes what it started with it, setsid or not"] = function()
  local done = t.file ""
  os.remove(done)
  local script, mark = t.file(CRASH:format(done)), t.mark()
  local out = t.shell(([[
MARK=%s "$FZLUA" %s >/dev/null & pid=$!
until_true test -e %s
ps -o stat=,args= --ppid $pid
kill -9 $pid; wait $pid]]):format(mark, script, done))
  t.equal({ out, t.left_of(mark) }, { "", "" })
end

tests["a worker that is killed fails one job, other workers continue, and a retry does the job"] =
function()
  local stage = fz.stage "s"
  for i = 1, 40 do
    stage:register("o" .. i, "A", function(a)
      if a == "kill" and i % 10 == 0 then os.execute("kill -9 " .. core.pid()) end
      return i
    end)
  end
  local chain <close> = fz.chain({ stage }, { jobs = 3, on_error = "continue" })
  chain:invoke { A = "kill" }
  local failed = 0
  for name, e in pairs(chain.errors) do
    failed = failed + 1
    t.equal({ e.kind, e.signal, name:match "0$" }, { "crash", 9, "0" })
  end
  t.equal(failed, 4)
  chain:invoke { A = 1 }
  t.equal({ next(chain.errors) }, {})
  for i = 1, 40 do t.equal(chain.output["o" .. i], i) end
end

tests["random kills with a retry lose nothing"] = function()
  local g <close> = fz.dag { jobs = 4, retries = 1 }
  local marks = t.file ""
  os.remove(marks)
  for i = 1, 200 do
    g:add("n" .. i, {}, function()
      -- The first attempt of every seventh node exits or is killed.
      local mark = marks .. i
      if i % 7 == 0 and not io.open(mark) then
        io.open(mark, "w"):close()
        if i % 2 == 0 then os.exit(i) end
        os.execute("kill -SEGV " .. core.pid())
        while true do end
      end
      os.remove(mark)
      return i
    end)
  end
  g:invoke {}
  for i = 1, 200 do t.equal(g.output["n" .. i], i) end
end

tests["kill -9 of the command while it ends workers leaves none stopped"] = function()
  local ready = t.file ""
  local code = ([[
local s = fz.stage "s"
for i = 1, 4 do
  s:register("o" .. i, "A", function()
    for _ = 1, 3 do os.execute "sleep 78 &" end
    io.open(%q, "a"):write("x"):close()
    while true do end
  end)
end
fz.chain({ s }, { jobs = 4 }):invoke { A = 1 }]]):format(ready)
  local script = t.file(code)
  for i = 1, 6 do
    local mark = t.mark()
    t.shell(([[
: > %s
MARK=%s env --default-signal=INT "$FZLUA" %s >/dev/null 2>&1 </dev/null & pid=$!
until_true eval 'test $(wc -c < %s) -ge 4'
kill -INT $pid; sleep %g; kill -9 $pid; wait $pid]]):format(ready, mark, script, ready, 0.003 * i))
    t.equal(t.left_of(mark), "")
  end
end

tests["a worker that was stopped ends with what it started when the command is killed"] = function()
  local ready = t.file ""
  local script = t.file(([[
local s = fz.stage "s"
s:register("o", "A", function()
  os.execute "setsid sleep 78 &"
  io.open(%q, "w"):write("x"):close()
  while true do end
end)
fz.chain({ s }):invoke { A = 1 }]]):format(ready))
  for _ = 1, 3 do
    local mark = t.mark()
    t.shell(([[
: > %s
MARK=%s "$FZLUA" %s >/dev/null 2>&1 </dev/null & pid=$!
until_true test -s %s
kill -STOP $(cat /proc/$pid/task/$pid/children); sleep 0.05; kill -9 $pid; wait $pid]]):format(
      ready, mark, script, ready))
    t.equal(t.left_of(mark), "")
  end
end

tests["what a worker has begun to print is there when it is killed"] = function()
  local out = t.command("-e", [[
local s = fz.stage "s"
s:register("o", "A", function() io.write "item 17 ..." while true do end end)
pcall(fz.chain({ s }).invoke, fz.chain { s }, { A = 1 }, { timeout = 0.1 })]])
  t.equal(out, "item 17 ...")
end

tests["a job that is ended takes what it started with it"] = function()
  local mark = t.mark()
  local stage = fz.stage "s"
  stage:register("B", "A", function()
    os.execute(("MARK=%s sh -c 'setsid sleep 77 & sleep 78'"):format(mark))
  end)
  local chain <close> = fz.chain { stage }
  t.fails("timeout", chain.invoke, chain, { A = 1 }, { timeout = 0.3 })
  t.equal(t.left_of(mark), "")
end

return tests
