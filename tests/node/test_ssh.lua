-- --engine ssh://...: workers on other machines. A shell script replaces ssh: it runs the command
-- on this machine, or does what the name of the host says.
local t = ...
local tests = {}

local SSH <const> = [[
# The last two arguments are the host and the command.
for word; do host=$command command=$word; done
case $host in
refuses) echo "ssh: connect to host refuses: Connection refused" >&2; exit 255 ;;
silent) exit 255 ;;
garbage) echo "Welcome to this machine"; exec cat ;;
old) exec sh -c "${command%/*}.old/Lua5.4" ;;
bare) PATH=/nowhere; unset FZLUA_WORKER_COMMAND; exec /bin/sh -c "fzlua --worker" ;;
stuck) exec sleep 77 ;;
# As sshd does with a command of its own for the user's key.
allows*) SSH_ORIGINAL_COMMAND=$command; export SSH_ORIGINAL_COMMAND
  exec setsid -w sh -c "\"\$FZLUA\" --worker --allow \"\$ALLOW\"" ;;
esac
# Not a child of the command, and not in its group, as on another machine.
exec setsid -w sh -c "$command"
]]

-- The environment variables that make fzlua use this script.
local function environment()
  return ("FZLUA_SSH='sh %s' FZLUA_WORKER_COMMAND=%s"):format(t.file(SSH), t.fzlua)
end

-- Run a script with these options; returns what it prints, its errors, and the status.
local function run(options, code, ...)
  local words = { environment(), '"$FZLUA"', options, t.file(code), ... }
  return t.shell(table.concat(words, " "))
end

-- Run a script with these options; it must succeed and print `expected`.
local function check(expected, options, code, ...)
  local out, err, status = run(options, code, ...)
  t.equal({ out, err, status }, { expected, "", 0 })
end

-- Check that a script prints the same on nodes as in one process.
local function same(code, ...)
  local out, err, status = run("-j0", code, ...)
  t.equal({ err, status }, { "", 0 })
  check(out, "--engine ssh://one:2,two:1", code, ...)
end

local FACE <const> = [[
local add = function(a, b) return a + b end
print(table.unpack(fz.map(function(x) return x * x end, {1, 2, 3, 4, 5})))
print(fz.fold(add, {1, 2, 3, 4}, 0, add))
local random = fz.map(function() return math.random() end, {1, 2, 3}, {seed = 7})
print(table.unpack(random))
local stage = fz.stage "S"
stage:register("B", "A", function(a) return a + 1 end)
stage:register("C", "A", function(a) return {a, #("x"):rep(a * 100000)} end)
local last = fz.stage "T"
last:register("D", {"B", "C"}, function(b, c) return b + c[1] + c[2] end)
local chain <close> = stage >> last
print(chain:invoke({A = 3}).output.D)
for i, output in chain:stream({{A = 1}, {A = 2}, {A = 3}}) do print(i, output.D) end
local pool <close> = fz.pool {init = function() INIT = 4 end}
print(pool:apply(function(...) return INIT, ... end, 1, nil, "x"))
local n = 0
for i, x in pool:imap(function(x) return 2 * x end, {1, 2, 3}) do n = n + i * x end
print(n)
]]

tests["maps, folds, chains, streams and pools give the same on nodes"] = function()
  same(FACE)
end

tests["the environment names the engine, a call may name another, and -j0 uses none"] = function()
  local code = [[
    local where = function() return os.getenv "FZLUA_ENGINE" or "on a node" end
    print(fz.map(where, {1})[1], fz.map(where, {1}, {engine = "local"})[1])
  ]]
  local url = "ssh://one:2"
  local command = ('%s FZLUA_ENGINE=%s "$FZLUA"'):format(environment(), url)
  local script = t.file(code)
  t.equal(t.shell(command .. " " .. script), "on a node\t" .. url .. "\n")
  t.equal(t.shell(command .. " -j0 " .. script), url .. "\t" .. url .. "\n")
  t.equal(t.shell(command .. " --engine local " .. script), url .. "\t" .. url .. "\n")
end

tests["an invoke on another engine has other workers"] = function()
  check("nil\none\nnil\n", "", [[
    local s = fz.stage()
    s:register("A", {}, function() error "where" end)
    local chain <close> = fz.chain{s}
    for _, engine in ipairs{"local", "ssh://one", "local"} do
      local _, e = pcall(chain.invoke, chain, {}, {engine = engine})
      print(e.node)
    end
  ]])
end

tests["errors have the node, the pid there, and how a worker died"] = function()
  check([[
error	one	true
crash	one	true
9
crash	one	true
3
timeout	one	true
]], "--engine ssh://one", [[
    local function show(f, options)
      local _, e = pcall(fz.map, f, {1}, options)
      print(e.kind, e.node, math.type(e.pid) == "integer" and tostring(e):find "node one" ~= nil)
      return e
    end
    show(function() error "x" end)
    print(show(function() os.execute "kill -9 $PPID" end).signal)
    print(show(function() os.exit(3) end).exitcode)
    show(function() os.execute "sleep 60" end, {timeout = 0.2})
  ]])
end

tests["records of a trace have the node, and the processor time and memory there"] = function()
  check("one\ttrue\ttrue\none\ttrue\n", "--engine ssh://one", [[
    local g <close> = fz.dag()
    g:add("a", {}, function()
      local till = os.clock() + 0.05
      while os.clock() < till do end
    end)
    g:map("m", "list", function(x) return x end)
    g:invoke({list = {1, 2, 3}}, {trace = true})
    for _, e in ipairs(g.trace) do
      if e.name == "a" then print(e.node, e.cpu >= 0.04, e.peak > 100000) end
    end
    for _, e in ipairs(g.trace) do
      if e.name == "m" and e.index == 1 then print(e.node, e.peak > 100000) end
    end
  ]])
end

tests["a node without a worker is one line that says why"] = function()
  local code = "fz.map(print, {1, 2, 3})"
  for host, why in pairs {
    refuses = "ssh: connect to host refuses: Connection refused",
    silent = "exited with code 255",
    garbage = "the pipe carries bytes that are not a frame",
    old = "the node has fzlua [%w./]+, the script has fzlua [%w./]+%.old/Lua5.4",
    bare = "fzlua: not found",
  } do
    local out, err, status = run("--engine ssh://" .. host .. ":2", code)
    t.equal({ out, status }, { "", 1 })
    t.equal(select(2, err:gsub("\n", "")), 1)
    assert(err:find("cannot start a worker on " .. host .. ": .*" .. why), err)
  end
end

-- A script with its options on a node that allows the functions of the file `allowed`.
local function run_allowed(allowed, options, code)
  local file = t.file(allowed)
  local command = ('ALLOW=%s %s "$FZLUA" --engine ssh://%s %s'):format(
    file, environment(), options, t.file(code))
  return t.shell(command)
end

local function digests(code)
  return (t.shell('"$FZLUA" --digests ' .. t.file(code)))
end

tests["a node with --allow runs the functions of its file"] = function()
  local expected = t.shell('"$FZLUA" -j0 ' .. t.file(FACE))
  local out, err, status = run_allowed(digests(FACE), "allows:2", FACE)
  t.equal({ out, err, status }, { expected, "", 0 })
  local nodes = t.shell(environment() .. ' ALLOW=/dev/null "$FZLUA" --engine ssh://allows --nodes')
  t.match(nodes, "ready\n")
end

tests["a function that a node does not allow is an error with its place and digest"] = function()
  local code = [[
    local s = fz.stage "S"
    s:register("B", "A", function(a) return a end)
    local chain <close> = fz.chain{s}
    for _, f in ipairs{function() end, os.getenv} do
      print(select(2, pcall(fz.map, f, {1})))
    end
    print(select(2, pcall(chain.invoke, chain, {A = 1})))
    for _, f in ipairs{tostring, string.upper} do print(fz.map(f, {"a"})[1]) end
  ]]
  local out, err, status = run_allowed("# nothing\n", "allows", code)
  t.equal({ err, status }, { "", 0 })
  local lines = {}
  for line in out:gmatch "[^\n]+" do lines[#lines + 1] = line end
  local listed = digests(code)
  for i, number in pairs { [1] = 4, [3] = 2 } do
    t.match(lines[i], "the function at ", (":%d is not allowed here"):format(number))
    local digest = lines[i]:match "does not have (%x+)$"
    assert(digest and listed:find(digest .. " %S+:" .. number), lines[i])
  end
  t.match(lines[1], "node allows")
  t.match(lines[2], "node allows", "os.getenv is not allowed here")
  t.match(lines[3], "output B", "cannot start a worker on allows")
  t.equal({ lines[4], lines[5], lines[6] }, { "a", "A" })
end

tests["arguments, upvalues and init of a function must be allowed, too"] = function()
  local code = [[
local function inner(x) return x end
local pool <close> = fz.pool(1)
local call = function(f, ...) return f(...) end
local outer = function(x) return inner(x) end
print(pcall(pool.apply, pool, call, tostring, 1))
print(select(2, pcall(pool.apply, pool, call, inner, 1)))
print(select(2, pcall(pool.apply, pool, outer, 1)))
print(select(2, pcall(pool.apply, pool, call, load, "return 1")))
print(select(2, pcall(pool.apply, pool, call, print, io)))
local set_up <close> = fz.pool{workers = 1, init = inner}
print(select(2, pcall(set_up.apply, set_up, tostring, 1)))
]]
  local allowed = {}
  for line in digests(code):gmatch "[^\n]+" do
    if not line:find ":1$" then allowed[#allowed + 1] = line end
  end
  local out, err, status = run_allowed(table.concat(allowed, "\n"), "allows", code)
  t.equal({ err, status }, { "", 0 })
  t.match(out, "true\t1\n", "_G.load is not allowed here", "the module io is not allowed here")
  t.equal(select(2, out:gsub(":1 is not allowed here", "")), 3)
end

tests["names in the file of --allow are those of modules and C functions"] = function()
  local out = run_allowed("os.time  # the clock\n  io\n", "allows", [[
    print(math.type(fz.map(os.time, {{year = 2026, month = 1, day = 1}})[1]))
    print(fz.map(io.type, {1})[1])
    print(pcall(fz.map, os.exit, {1}))
  ]])
  t.match(out, "integer\nnil\nfalse\t", "os.exit is not allowed here")
end

tests["a node with --allow does not look for modules where the submitter does"] = function()
  local module = t.file "return {answer = 42}"
  local code = ([[
    package.path = %q
    print(pcall(fz.map, function() return require "module".answer end, {1}))
  ]]):format(module)
  local out = run_allowed(digests(code), "allows", code)
  t.match(out, "module 'module' not found")
end

tests["a wrong file of --allow is one line"] = function()
  for text, why in pairs {
    ["# digests\n\n12345678 x\n"] = ":3: neither a digest nor a name",
    [("0"):rep(63) .. "G x\n"] = ":1: neither a digest nor a name",
    ["os/time\n"] = ":1: neither a digest nor a name",
  } do
    local out, err, status = run_allowed(text, "allows", "fz.map(print, {1})")
    t.equal({ out, status }, { "", 1 })
    t.equal(select(2, err:gsub("\n", "")), 1)
    t.match(err, "cannot start a worker on allows: ", why)
  end
end

tests["--digests prints a line for each function of its files"] = function()
  local path = t.file "local function f()\n  return function() end\nend\nreturn f\n"
  local moved = t.file "-- a comment\nlocal function f()\n  return function() end\nend\nreturn f\n"
  local out, err, status = t.command("--digests", path)
  t.equal({ err, status }, { "", 0 })
  t.equal(out:gsub("%x+ ", "- "), ("- %s:2\n- %s:1\n"):format(path, path))
  t.equal(#out:match "^%x+", 64)
  t.equal(t.command("--digests", path, path), out .. out)
  assert(t.command("--digests", moved):match "^%x+" ~= out:match "^%x+")
  t.equal({ t.command "--digests" }, { "", "fzlua: --digests needs the name of a script\n", 2 })
  out, err, status = t.command("--digests", t.file "(")
  t.equal({ out, status }, { "", 1 })
  t.match(err, "unexpected symbol")
end

tests["--nodes lists the nodes and why one is not ready"] = function()
  local command = environment() .. ' "$FZLUA" --nodes '
  local out, err, status = t.shell(command .. "--engine ssh://one:3,refuses")
  t.equal({ err, status }, { "", 1 })
  local lines = {}
  for line in out:gmatch "[^\n]+" do lines[#lines + 1] = line end
  t.equal(#lines, 3)
  t.match(lines[1], "node     slots  processors  load")
  assert(lines[2]:find "^one      3      %d+ +[%d.]+ +ready$", lines[2])
  t.equal(lines[3]:gsub(" +", " "), "refuses 1 - - cannot start a worker on refuses: "
    .. "ssh: connect to host refuses: Connection refused")
  t.equal(select(3, t.shell(command .. "--engine ssh://one")), 0)
  t.equal({ t.shell(command) }, { "", "fzlua: --nodes needs --engine URL\n", 2 })
  local long = ("long."):rep(30)
  t.match(t.shell(command .. "--engine ssh://" .. long), "\n" .. long .. "  1      ")
end

tests["--each runs on this machine, whatever the environment says"] = function()
  local command = environment() .. ' FZLUA_ENGINE=ssh://refuses "$FZLUA" '
  t.equal({ t.shell("echo a | env " .. command .. "--each 'line:upper()'") }, { "A\n", "", 0 })
  t.equal({ t.shell(command .. "--engine ssh://one --each line </dev/null") },
    { "", "fzlua: --engine: lines are processed on this machine only\n", 2 })
end

tests["a wrong URL is a mistake in the call"] = function()
  for url, why in pairs {
    ["telnet://a"] = "an engine is 'local', 'ssh://HOST:SLOTS,...' or 'nats://HOST'",
    ["ssh://"] = "'' is not HOST or HOST:SLOTS",
    ["ssh://a:0"] = "'a:0' is not HOST or HOST:SLOTS",
    ["ssh://a:1x"] = "'a:1x' is not HOST or HOST:SLOTS",
    ["ssh://a:-1"] = "'a:-1' is not HOST or HOST:SLOTS",
    ["ssh://a,,b"] = "'' is not HOST or HOST:SLOTS",
    ["ssh://-oProxyCommand=x"] = "is not HOST or HOST:SLOTS",
    ["ssh://a;b"] = "'a;b' is not HOST or HOST:SLOTS",
  } do
    local ok, e = pcall(fz.map, print, { 1 }, { engine = url })
    t.equal(ok, false)
    t.match(e, "bad option 'engine' to 'fz.map'", why)
    local _, err, status = t.command("--engine", url, "-e", "")
    t.match(err, "--engine", why)
    t.equal(status, 2)
  end
end

tests["a node that is down is left out with one line"] = function()
  local out, err, status = run("--engine ssh://refuses:2,one:1", [[
    local squares = fz.map(function(x) return x * x end, {1, 2, 3, 4, 5})
    print(table.unpack(squares))
  ]])
  t.equal({ out, status }, { "1\t4\t9\t16\t25\n", 0 })
  t.equal(err, "fzlua: cannot start a worker on refuses: "
    .. "ssh: connect to host refuses: Connection refused\n")
end

tests["a node that does not answer is left out, too"] = function()
  local out, err, status = run("--engine ssh://stuck:1,one:1", [[
    print(#fz.map(function(x) return x end, {1, 2}, {timeout = 1}))
  ]])
  t.equal({ out, status }, { "2\n", 0 })
  t.equal(err, "fzlua: cannot start a worker on stuck: the worker does not answer\n")
end

tests["shared objects cannot be sent to another machine"] = function()
  check([[
argument	unsendable
upvalue	unsendable
stage	unsendable
result	unsendable
manager	unsendable
]], "--engine ssh://one", [[
    local function show(what, f, ...)
      local _, e = pcall(f, ...)
      assert(tostring(e):find "cannot be sent to another machine", e)
      print(what, e.kind)
    end
    local queue, lock = fz.queue(), fz.lock()
    local pool <close> = fz.pool(1)
    show("argument", pool.apply, pool, print, queue)
    show("upvalue", pool.apply, pool, function() return lock end)
    local s = fz.stage()
    s:register("A", {}, function() return lock end)
    local chain <close> = fz.chain{s}
    show("stage", chain.invoke, chain)
    show("result", pool.apply, pool, function() return fz.queue() end)
    local manager <close> = fz.manager()
    local list = manager:list()
    show("manager", pool.apply, pool, print, list)
  ]])
end

tests["what a worker prints comes to the submitter before its results"] = function()
  local out, err, status = run("--engine ssh://one", [[
    local f = function(x)
      io.write("line ", x, "\n")
      io.stderr:write("error ", x, "\n")
      os.execute "echo program"
      return x
    end
    for i in ipairs{1, 2} do print(fz.map(f, {i})[1]) end
    fz.map(function() print(("x"):rep(3000000)) io.write "no newline" end, {1})
  ]])
  local expected = "line 1\nprogram\n1\nline 2\nprogram\n2\n" .. ("x"):rep(3000000)
    .. "\nno newline"
  assert(out == expected, #out)
  t.equal({ err, status }, { "error 1\nerror 2\n", 0 })
end

tests["a value of 64 MB goes to a node and back"] = function()
  check("67108864\tab\n", "--engine ssh://one", [[
    local pool <close> = fz.pool(1)
    local s = pool:apply(function(s) return s:sub(1, -3) .. "ab" end, ("x"):rep(64 << 20))
    print(#s, s:sub(-2))
  ]])
end

-- Shell functions: run the script in the background, wait until it has printed, end it.
local UNTIL_READY <const> = [[
out=%s
MARK=%s %s env --default-signal=INT \
    "$FZLUA" --engine ssh://one:2,two:1 %s >$out 2>&1 </dev/null & pid=$!
until_true eval 'test $(grep -c ready $out) = 3'
kill -%s $pid; wait $pid; echo $?
]]

local BUSY <const> = [[
fz.map(function() print "ready" os.execute "sleep 77" end, {1, 2, 3})
]]

-- Send a signal to the submitter. No process of the run may be left.
local function check_end(signal, expected)
  local mark = t.mark()
  local out = t.shell(UNTIL_READY:format(t.file "", mark, environment(), t.file(BUSY), signal))
  t.equal(out, expected)
  t.until_true(function() return t.left_of(mark) == "" end)
end

tests["after Ctrl-C nothing is left on the nodes"] = function()
  check_end("INT", "130\n")
end

tests["after kill -9 of the submitter nothing is left on the nodes"] = function()
  check_end("KILL", "137\n")
end

tests["a worker sends something now and then, so that sshd notices a lost connection"] = function()
  local version = t.shell '"$FZLUA" --version':gsub("^fzlua (%S+) +Lua (%S+)%s*$", "%1/Lua%2")
  t.equal(t.shell(([[
    dir=$(mktemp -d); mkfifo $dir/in; trap 'rm -r $dir' EXIT
    "$FZLUA" --worker %s <$dir/in >$dir/out & exec 3>$dir/in
    until_true test -s $dir/out; joined=$(wc -c <$dir/out); grep -ac version $dir/out
    until_true eval 'test $(wc -c <$dir/out) -gt $joined' && echo more
    exec 3>&-; wait
  ]]):format(version)), "0\nmore\n")
end

-- Shell functions: an sshd on loopback with keys of its own. The hosts one and two share a
-- connection, other hosts have one for each worker.
local SSHD <const> = [[
dir=$(mktemp -d /tmp/fzlua-sshd-XXXXXX); chmod 700 $dir; mkdir -p /run/sshd 2>/dev/null
ssh-keygen -q -t ed25519 -N '' -f $dir/host; ssh-keygen -q -t ed25519 -N '' -f $dir/user
cp $dir/user.pub $dir/keys
port=$((10000 + $$ %% 10000)) # below those that the kernel gives to connections
cat >$dir/sshd_config <<end
Port $port
ListenAddress 127.0.0.1
HostKey $dir/host
AuthorizedKeysFile $dir/keys
PidFile none
StrictModes no
UsePAM no
end
cat >$dir/ssh_config <<end
Host one two
ControlPath $dir/control
Host *
HostName 127.0.0.1
Port $port
IdentityFile $dir/user
IdentitiesOnly yes
UserKnownHostsFile $dir/known
StrictHostKeyChecking accept-new
end
%s -D -f $dir/sshd_config 2>$dir/log & sshd=$!
trap 'ssh -F $dir/ssh_config -q -O exit one 2>/dev/null; kill $sshd
  wait $sshd 2>/dev/null; rm -r $dir' EXIT
until_true ssh -F $dir/ssh_config -oBatchMode=yes -MNf one
export FZLUA_SSH="ssh -F $dir/ssh_config" FZLUA_WORKER_COMMAND=$FZLUA
]]

local sshd = t.shell("PATH=$PATH:/usr/sbin command -v sshd"):match "%S+"
if not sshd then print "test_ssh: the tests with sshd are skipped: no sshd" end

tests["the same through sshd, also after kill -9 of the submitter"] = sshd and function()
  local start = SSHD:format(sshd)
  local expected = t.shell('"$FZLUA" -j0 ' .. t.file(FACE))
  local out, err, status = t.shell(start .. '"$FZLUA" --engine ssh://one:2,two:1 ' .. t.file(FACE))
  t.equal({ out, err, status }, { expected, "", 0 })
  out = t.shell(start .. ([[
"$FZLUA" --engine ssh://other:2 %s >$dir/out & pid=$!
until_true eval 'test $(wc -l <$dir/out) = 2'
kill -9 $pid; wait $pid 2>/dev/null
for worker in $(cat $dir/out); do until_true is_gone $worker || echo left $worker; done
echo done $(wc -l <$dir/out)
]]):format(t.file [[
    fz.map(function() os.execute "echo $PPID; exec sleep 77" end, {1, 2})
  ]]))
  t.equal(out, "done 2\n")
end or nil

-- Run the submitter, and every 0.1 s kill a process with --worker in its command line: a worker, or
-- a process that connects one with ssh. All of them have MARK in their environment.
local KILLER <const> = [[
MARK=%s; export MARK
%s "$FZLUA" --retries 20 --engine ssh://one:2,two:2 %s %s >%s & pid=$!
while kill -0 $pid 2>/dev/null; do
  sleep 0.1
  for victim in $(pgrep -f -- '--worker' | shuf); do
    if test $victim != $pid && tr '\0' '\n' </proc/$victim/environ 2>/dev/null |
        grep -qx "MARK=$MARK"; then
      kill -9 $victim; break
    fi
  done
done
wait $pid
]]

-- Check that a script prints the same although workers and nodes are killed while it runs.
local function same_with_kills(code, ...)
  local arguments = table.concat({ ... }, " ")
  local script, out, mark = t.file(code), t.file "", t.mark()
  local expected = t.shell(('"$FZLUA" -j0 %s %s'):format(script, arguments))
  local _, err, status = t.shell(KILLER:format(mark, environment(), script, arguments, out))
  local file <close> = assert(io.open(out))
  t.equal({ file:read "a", status }, { expected, 0 }, err)
  t.until_true(function() return t.left_of(mark) == "" end)
end

tests["maps give the same although nodes and workers are killed"] = function()
  same_with_kills [[
    local pool <close> = fz.pool{seed = 1}
    local function slow(x) os.execute "sleep 0.02" return x * math.random(1000) end
    local list = {}
    for i = 1, 100 do list[i] = i end
    print(table.unpack(pool:map(slow, list)))
    for i, x in pool:imap(slow, list, {seed = 2}) do io.write(i, " ", x, "\n") end
  ]]
end

tests["random dags give the same although nodes and workers are killed"] = function()
  for seed = 1, t.rounds(4) do
    same_with_kills([[
      math.randomseed(tonumber((...):match "%d+"))
      local dag <close> = fz.dag{seed = 7}
      local names = {"x"}
      for i = 1, 30 do
        local needs = {}
        for _ = 1, math.random(3) do
          local name = names[math.random(#names)]
          needs[#needs + 1], needs[name] = not needs[name] and name or nil, true
        end
        for key in pairs(needs) do if type(key) == "string" then needs[key] = nil end end
        names[#names + 1] = "v" .. i
        dag:add("v" .. i, needs, function(...)
          os.execute "sleep 0.05"
          local sum = math.random(1000)
          for _, v in ipairs{...} do sum = sum + v end
          return sum
        end)
      end
      local output = dag:invoke({x = 1}).output
      for i = 1, 30 do print(output["v" .. i]) end
    ]], "seed=" .. seed)
  end
end

return tests
