-- --engine nats://...: nodes, servers and submitters that stop, freeze or are cut off. The server
-- is away for FZLUA_NATS_OUTAGE seconds (default: 1), and the network too (default: 4).
local t = ...
local nats = dofile "tests/support/nats.lua"
local tests = {}

local missing = nats.missing(t)
if missing then
  print("test_nats_faults: skipped: " .. missing)
  return tests
end

local function run(commands, ...)
  return nats.run(t, commands:format(...))
end

-- A proxy that passes on bytes between PORT and SERVER, except while FILE exists.
local PROXY <const> = [==[
local socket = require "socket"
local port, server, file = arg[1], arg[2], arg[3]
local listener = assert(socket.bind("127.0.0.1", port))
local peer = {}
local function is_cut() local f = io.open(file) if f then f:close() end return f end
print "ready" io.stdout:flush()
while true do
  local list = { listener }
  for s in pairs(peer) do list[#list + 1] = s end
  local ready = socket.select(list, nil, 0.05)
  if is_cut() then
    socket.sleep(0.05)
  else
    for _, s in ipairs(ready) do
      if s == listener then
        local a, b = listener:accept(), assert(socket.connect("127.0.0.1", server))
        peer[a], peer[b] = b, a
        a:settimeout(0) b:settimeout(0)
      elseif peer[s] then
        local bytes, e, part = s:receive(65536)
        bytes = bytes or part
        peer[s]:settimeout(nil)
        peer[s]:send(bytes)
        peer[s]:settimeout(0)
        if e == "closed" then peer[s]:close() s:close() peer[peer[s]] = nil peer[s] = nil end
      end
    end
  end
end
]==]

-- Shell functions: `proxy` starts a proxy, and sets `away` to the URL through it; `cut` makes the
-- proxy stop passing on bytes, and `mend` makes it go on.
local function proxy()
  return ([[
proxy() { "$FZLUA" %s $((port + 10000)) $port $dir/cut >$dir/proxy &
  until_true grep -q ready $dir/proxy; away=nats://u:p%%%%40ss@127.0.0.1:$((port + 10000))/team; }
cut() { : >$dir/cut; }
mend() { rm $dir/cut; }
]]):format(t.file(PROXY))
end

local has_socket = pcall(require, "socket")
local OUTAGE <const> = os.getenv "FZLUA_NATS_OUTAGE"

-- Each item writes to the file arg[1] when it starts, and takes arg[3] seconds. arg[2] is the
-- number of retries.
local ITEMS <const> = [[
local f = function(i, file, seconds)
  local out = io.open(file, "a")
  out:write(i, "\n")
  out:close()
  os.execute("sleep " .. seconds)
  return i * i
end
local list = {}
for i = 1, 12 do list[i] = {i, arg[1], arg[3]} end
local ok, e = pcall(fz.starmap, f, list, {retries = tonumber(arg[2])})
print(ok and table.concat(e, " ") or e)
]]
local SQUARES <const> = "1 4 9 16 25 36 49 64 81 100 121 144\n"

tests["a run goes on after the server was stopped and started, and nothing runs twice"] = function()
  local out = run([[
    node one 2; node two 1; script out %s $dir/ran 0 0.5
    until_true test -s $dir/ran; stop_server; sleep %s; server
    wait $script; cat $dir/out; wc -l <$dir/ran
  ]], t.file(ITEMS), OUTAGE or 1)
  t.equal(out, SQUARES .. "12\n")
end

if has_socket then
  tests["a run goes on after the submitter was cut off"] = function()
    local out = run(proxy() .. [[
      proxy; node one 2; node two 1; url=$away; script out %s $dir/ran 0 0.5
      until_true test -s $dir/ran; cut; sleep %s; mend; wait $script; cat $dir/out; wc -l <$dir/ran
    ]], t.file(ITEMS), OUTAGE or 4)
    t.equal(out, SQUARES .. "12\n")
  end

  tests["a run goes on after a node was cut off, whose jobs wait for it"] = function()
    local out = run(proxy() .. [[
      proxy; node one 1; node two 1 $away; script out %s $dir/ran 0 0.5
      until_true test -s $dir/ran; cut; sleep %s; mend; wait $script; cat $dir/out; wc -l <$dir/ran
    ]], t.file(ITEMS), OUTAGE or 4)
    t.equal(out, SQUARES .. "12\n")
  end

  tests["a value on its way arrives after its node was cut off"] = function()
    local out = run(proxy() .. [[
      proxy; node one 1 $away; script out %s $dir/ran; until_true test -s $dir/ran; sleep 0.05
      cut; sleep %s; mend; wait $script; cat $dir/out
    ]], t.file [[
      local f = function(file)
        local s = ("0123456789abcdef"):rep(1 << 20)
        io.open(file, "w"):write "x" :close()
        return s
      end
      local s = fz.map(f, {arg[1]})[1]
      print(#s, s == ("0123456789abcdef"):rep(1 << 20))
    ]], OUTAGE or 1)
    t.equal(out, "16777216\ttrue\n")
  end

  tests["a server that accepts and says nothing is one line"] = function()
    local out = run(proxy() .. [[
      proxy; cut; start=$(date +%%s); "$FZLUA" --engine $away -e 'fz.map(print, {1})'
      "$FZLUA" --worker --engine $away; test $(($(date +%%s) - start)) -lt 25 && echo soon
    ]])
    t.match(out, "no NATS server answers\n", "soon\n")
    t.equal(select(2, out:gsub("\n", "")), 3)
  end
end

-- Each attempt writes to the file arg[1] when it starts. The first one waits for the file
-- arg[1].go. arg[2] is the number of retries.
local WAITS <const> = [[
local f = function(file)
  local begun = io.open(file, "a+")
  local again = begun:read()
  begun:write("begun\n")
  begun:close()
  while not again and not io.open(file .. ".go") do os.execute "sleep 0.05" end
  return "done"
end
local ok, e = pcall(fz.map, f, {arg[1]}, {retries = tonumber(arg[2])})
if ok then print(e[1]) else print(e.kind, e.node, e.message) end
]]

tests["a frozen node costs nothing if its job has no other attempt"] = function()
  local out = run([[
    node one 1; script out %s $dir/ran 0; until_true test -s $dir/ran
    kill -STOP $node; sleep 4; kill -CONT $node; : >$dir/ran.go; wait $script
    cat $dir/out; wc -l <$dir/ran
  ]], t.file(WAITS))
  t.equal(out, "done\n1\n")
end

tests["a job that may be tried again leaves a frozen node"] = function()
  local out = run([[
    node one 1; frozen=$node; script out %s $dir/ran 1; until_true test -s $dir/ran
    node two 1; kill -STOP $frozen; wait $script; cat $dir/out; kill -CONT $frozen
    "$FZLUA" --engine $url --nodes | grep -c ready
  ]], t.file(WAITS))
  t.equal(out, "done\n2\n")
end

-- The server needs some time to notice the death of a node. If the job was sent before, the test
-- tries again and waits longer.
tests["a job without retries that is sent to a dead node goes to another one"] = function()
  local out = run([[
    for i in 1 2 3 4 5; do
      node one 1; script out %s $node $dir/go$i 0.$i; until_true grep -q warm $dir/out
      node two 1; second=$node; : >$dir/go$i; wait $script; cat $dir/out
      grep -q 42 $dir/out && break; kill -9 $second
    done
  ]], t.file [[
    local pool <close> = fz.pool(1)
    pool:apply(function() end)
    print "warm" io.stdout:flush()
    while not io.open(arg[2]) do os.execute "sleep 0.02" end
    os.execute("kill -9 " .. arg[1] .. "; sleep " .. arg[3])
    local ok, e = pcall(pool.apply, pool, function() return 42 end)
    print(ok and e or e.message)
  ]])
  t.match(out, "warm\n42\n")
end

tests["an error says how its node was lost"] = function()
  local out = run([[
    node one 1; script out %s $dir/1 0; until_true test -s $dir/1; kill -9 $node; wait $script
    node two 1; script out2 %s $dir/2 0; until_true test -s $dir/2; kill $node; kill -INT $node
    wait $script; cat $dir/out $dir/out2
  ]], t.file(WAITS), t.file(WAITS))
  t.equal(out, "crash\tone\tnode one is lost: its gateway has left without notice\n" ..
    "crash\ttwo\tnode two is lost: the node was ended by a second signal\n")
end

tests["a second signal ends what runs on the node, and another node does it"] = function()
  local out = run([[
    node one 1; first=$node; script out %s $dir/ran 1; until_true test -s $dir/ran; node two 1
    kill $first; sleep 0.2; kill -0 $first && echo waits; kill -INT $first; wait $first
    echo left $?; wait $script; cat $dir/out
  ]], t.file(WAITS))
  t.equal(out, "waits\nleft 0\ndone\n")
end

tests["a node that leaves takes no more jobs of a run that goes on"] = function()
  local out = run([[
    node one 1; first=$node; node two 1; script out %s $dir/ran 0 0.4
    until_true test -s $dir/ran; kill $first; wait $first; echo left $?
    kill -0 $script && echo runs; wait $script; cat $dir/out; wc -l <$dir/ran
  ]], t.file(ITEMS))
  -- This line may appear, because a worker that was about to start on the node is reported.
  out = out:gsub("fzlua: cannot start a worker on one: the node is not there any more\n", "")
  t.equal(out, "left 0\nruns\n" .. SQUARES .. "12\n")
end

tests["a node whose workers are idle leaves at once"] = function()
  local out = run([[
    node one 1; script out %s $dir/go; until_true grep -q ready $dir/out
    kill -INT $node; wait $node
    echo left $?; node two 1; : >$dir/go; wait $script; tail -1 $dir/out
  ]], t.file [[
    local pool <close> = fz.pool()
    pool:apply(function() end)
    print "ready" io.stdout:flush()
    while not io.open(arg[1]) do fz.sleep(0.02) end
    print(pool:apply(function() return "again" end))
  ]])
  t.equal(out, "left 0\nagain\n")
end

tests["a job that kills its node stops after its retries"] = function()
  local out = run([[
    node one 1; node two 1; node three 1; script out %s $dir/ran; wait $script
    cat $dir/out; wc -l <$dir/ran
  ]], t.file [[
    local poison = function(file)
      local ran = io.open(file, "a")
      ran:write("x\n")
      ran:close()
      local function read(pid, name)
        local proc <close> = io.open(("/proc/%s/%s"):format(pid, name))
        return proc:read "a"
      end
      -- The worker's parent is the process on the node, whose parent is the gateway.
      local gateway = read(read("self", "stat"):match "%) %a (%d+) ", "stat"):match "%) %a (%d+) "
      assert(read(gateway, "cmdline"):find("--serve", 1, true))
      os.execute("sleep 1; kill -9 " .. gateway) -- after the start of this call was reported
      os.execute "sleep 77"
    end
    local ok, e = pcall(fz.map, poison, {arg[1]}, {retries = 1})
    print(ok, e.kind, e.attempt)
    print(fz.map(function(x) return x + 1 end, {1})[1])
  ]])
  t.equal(out, "false\tcrash\t2\n2\n2\n")
end

for _, what in ipairs { "$script", "$gateway", "$script $gateway" } do
  tests["nodes are idle soon after kill -9 of " .. what] = function()
    local out = run([[
      node one 1; script out %s $dir/pid; until_true test -s $dir/pid; worker=$(cat $dir/pid)
      gateway=$(cat /proc/$script/task/$script/children)
      for p in $gateway; do tr '\0' ' ' </proc/$p/cmdline | grep -q -e --submit && break; done
      gateway=$p; kill -9 %s 2>/dev/null; start=$(date +%%s)
      until_true is_gone $worker && echo ended
      test $(($(date +%%s) - start)) -lt 20 && echo soon
      "$FZLUA" --engine $url --nodes | grep -c '^one .*ready'
    ]], t.file [[
      fz.map(function(p) os.execute("echo $PPID >" .. p .. "; exec sleep 77") end, {arg[1]})
    ]], what)
    t.equal(out, "ended\nsoon\n1\n")
  end
end

-- A program that sets a limit of descriptors with the options LIMITS of `ulimit`, and then runs the
-- gateway. The relays run it, too, but need few descriptors.
local LIMITED <const> = [[
gateway=${FZLUA_NATS:-$FZLUA-nats}
printf '#!/bin/sh\nulimit %%s; exec %%s "$@"\n' "$LIMITS" $gateway >$dir/limited
chmod +x $dir/limited; export FZLUA_NATS=$dir/limited
# ticks: the processor time of the gateway of $script
ticks() { for p in $(cat /proc/$script/task/$script/children); do
  grep -qaz -e --submit /proc/$p/cmdline && awk '{ print $14 + $15 }' /proc/$p/stat; done; }
]]

tests["a gateway has as many descriptors as the hard limit allows"] = function()
  local out = run("LIMITS='-Sn 24';" .. LIMITED .. [[
    node one 16; script out %s; wait $script; cat $dir/out
  ]], t.file [[
    local list = {}
    for i = 1, 16 do list[i] = i end
    list = fz.map(function()
      os.execute "sleep 0.5"
      return fz.exec{"sh", "-c", "ulimit -n"}.stdout
    end, list)
    print(#list, list[1])
  ]])
  t.equal(out, "16\t24\n\n")
end

tests["a gateway without descriptors makes relays wait, and does not spin"] = function()
  local out = run([[
    node one 16;]] .. "LIMITS='-n 28';" .. LIMITED .. [[
    script out %s $dir/ran; until_true test -s $dir/ran; sleep 1; before=$(ticks); sleep 2
    after=$(ticks); test $((after - before)) -lt 50 || echo spins $before $after
    : >$dir/ran.go; wait $script; cat $dir/out
  ]], t.file [[
    local list, ran, sum = {}, arg[1], 0
    for i = 1, 16 do list[i] = i end
    for _, x in ipairs(fz.map(function(x)
      io.open(ran, "a"):write "x":close()
      while not io.open(ran .. ".go") do os.execute "sleep 0.05" end
      return x
    end, list)) do sum = sum + x end
    print(sum)
  ]])
  t.equal(out, "136\n")
end

tests["a slow loop gets all results in order"] = function()
  local out = run([[node one 2; script out %s; wait $script; cat $dir/out]], t.file [[
    local n, list = 0, {}
    for i = 1, 60 do list[i] = i end
    local pool <close> = fz.pool()
    for i, x in pool:imap(function(i) return ("x"):rep(100000) .. i end, list) do
      fz.sleep(0.02)
      assert(x:sub(100001) == tostring(i))
      n = n + 1
    end
    print(n)
  ]])
  t.equal(out, "60\n")
end

tests["a node whose disk is full serves, and the error is that of the function"] = function()
  local out = run([[
    "$FZLUA" --worker --engine $url -j1 --name full 2>/dev/full &
    until_true sh -c '"$FZLUA" --engine '$url' --nodes | grep -q full'
    script out %s; wait $script; cat $dir/out
  ]], t.file [[
    local ok, e = pcall(fz.map, function()
      local file = io.open("/dev/full", "w")
      file:setvbuf "no"
      assert(file:write "x")
    end, {1})
    print(e.node, e.message)
    print(fz.map(function(x) return x end, {7})[1])
  ]])
  t.match(out, "full\t", "No space left on device", "\n7\n")
end

tests["a node of another version is left out with a line"] = function()
  local out = run [[
    gateway=${FZLUA_NATS:-$FZLUA-nats}
    printf '%%s\0' $url '' 'fzlua 0.0.1, Lua 5.4' "$FZLUA" 1 old >$dir/setup
    $gateway --serve 9 9<$dir/setup 2>$dir/old & until_true grep -q joined $dir/old
    "$FZLUA" --engine $url -e 'fz.map(print, {1})'; node new 1
    "$FZLUA" --engine $url -e 'print(fz.map(function(x) return x end, {1})[1])'
    "$FZLUA" --engine $url --nodes | grep -c 'old .*the node runs fzlua'
  ]]
  t.match(out, "can be used: old: the node runs fzlua 0.0.1", "\n1\n1\n")
end

return tests
