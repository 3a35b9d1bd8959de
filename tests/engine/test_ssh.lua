-- --engine ssh://...: workers on other machines. A shell script plays ssh: it runs the command on
-- this machine, or does what the name of the host says.
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
esac
# Not a child of the command, and not in its group, as on another machine.
exec setsid -w sh -c "$command"
]]

-- The variables that let fzlua use it.
local function environment()
  return ("FZLUA_SSH='sh %s' FZLUA_WORKER_COMMAND=%s"):format(t.file(SSH), t.fzlua)
end

-- Run a script with these options; returns what it prints, its errors, and the status.
local function run(options, code, ...)
  local words = { environment(), '"$FZLUA"', options, t.file(code), ... }
  return t.shell(table.concat(words, " "))
end

-- Run it; it must succeed and print this.
local function check(expected, options, code, ...)
  local out, err, status = run(options, code, ...)
  t.equal({ out, err, status }, { expected, "", 0 })
end

-- The same script prints the same on nodes as in one process.
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

tests["a node without a worker is one line that says why"] = function()
  local code = "fz.map(print, {1, 2, 3})"
  for host, why in pairs {
    refuses = "ssh: connect to host refuses: Connection refused",
    silent = "exited with code 255",
    garbage = "its pipe carries bytes that are no frame",
    old = "fzlua there is of version [%w./]+, and here of version [%w./]+%.old/Lua5.4",
    bare = "fzlua: not found",
  } do
    local out, err, status = run("--engine ssh://" .. host .. ":2", code)
    t.equal({ out, status }, { "", 1 })
    t.equal(select(2, err:gsub("\n", "")), 1)
    assert(err:find("cannot start a worker on " .. host .. ": .*" .. why), err)
  end
end

tests["a wrong URL is a mistake in the call"] = function()
  for url, why in pairs {
    ["telnet://a"] = "an engine is 'local' or 'ssh://HOST:SLOTS,...'",
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
  t.equal(err, "fzlua: cannot start a worker on stuck: it does not answer\n")
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
n=0; until test $(grep -c ready $out) = 3 || test $((n += 1)) -gt 1000; do sleep 0.02; done
kill -%s $pid; wait $pid; echo $?
]]

local BUSY <const> = [[
fz.map(function() print "ready" os.execute "sleep 77" end, {1, 2, 3})
]]

-- End the submitter by a signal; nothing is left then.
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

return tests
