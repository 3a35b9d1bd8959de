-- --engine nats://...: nodes that join a NATS server, here one on loopback with a password.
local t = ...
local tests = {}

local nats = dofile "tests/support/nats.lua"
local missing = nats.missing(t)
if missing then
  print("test_nats: skipped: " .. missing)
  return tests
end

local function run(commands, max_payload)
  return nats.run(t, commands, { max_payload = max_payload })
end

tests["maps, chains, streams and pools give the same on nodes, in small packets, too"] = function()
  local script = t.file [[
    print(table.unpack(fz.map(function(x) return x * x end, {1, 2, 3, 4, 5})))
    local stage, last = fz.stage "S", fz.stage "T"
    stage:register("B", "A", function(a) return {a, #("x"):rep(a * 100000)} end)
    last:register("C", "B", function(b) return b[1] + b[2] end)
    local chain <close> = stage >> last
    for i, output in chain:stream{{A = 1}, {A = 2}, {A = 3}} do print(i, output.C) end
    local pool <close> = fz.pool {init = function() INIT = 4 end}
    local s = pool:apply(function(s) return s:sub(2) .. INIT end, ("x"):rep(3000000))
    print(#s, s:sub(-2))
  ]]
  local expected = t.shell('"$FZLUA" -j0 ' .. script)
  for _, max in ipairs { 2048, 1 << 20 } do
    t.equal(run('node one 2; node two 1; "$FZLUA" --engine $url ' .. script, max), expected)
  end
end

tests["--nodes lists the nodes by their names, and those of a URL in its order"] = function()
  local out = nats.run(t, [[
    node two 1; node one 1; node three 1; "$FZLUA" --engine $url --nodes | cut -d' ' -f1
    FZLUA_SSH="sh -c 'exit 1'" "$FZLUA" --engine ssh://two,one --nodes | cut -d' ' -f1
  ]])
  t.equal(out, "node\none\nthree\ntwo\nnode\ntwo\none\n")
end

tests["--nodes lists the nodes, and no secret is on a command line"] = function()
  local out = run [[
    node one 3; "$FZLUA" --engine $url --nodes; tr '\0' ' ' </proc/$node/cmdline
  ]]
  assert(out:find "\none +3 +%d+ +[%d.]+ +ready\n", out)
  assert(out:find "fzlua%-nats %-%-serve %d+ $", out)
end

tests["errors say why no node can be used"] = function()
  local out = run [[
    try() { "$FZLUA" --engine $1 -e 'fz.map(print, {1})'; }
    try $url; try nats://u:secret@127.0.0.1:$port; try nats://127.0.0.1:1
    FZLUA_NATS=/nowhere/fzlua-nats try $url
    try nats://example.org
  ]]
  t.match(out, "no node has joined nats://127.0.0.1:", "the NATS server refuses the user",
    "nats://127.0.0.1:1/default: no NATS server answers", "libnats-dev",
    "the connection to example.org is not encrypted")
  t.equal(select(2, out:gsub("\n", "")), 5)
  assert(not out:find "secret" and not out:find "p@ss", out)
end

tests["a node with --allow runs the functions of its file alone"] = function()
  local script = t.file [[
    local function double(x) return 2 * x end
    print(table.unpack(fz.map(double, {1, 2, 3})))
    print(select(2, pcall(fz.map, function() return 1 end, {1})))
  ]]
  local out = run(([[
    "$FZLUA" --digests %s | grep ':1$' >$dir/allowed
    cd $dir; node one 2 $url --allow allowed; cd /; "$FZLUA" --engine $url %s
    "$FZLUA" --worker --engine $url --allow $dir/nothing
    echo wrong line >$dir/allowed; "$FZLUA" --worker --engine $url --allow $dir/allowed
  ]]):format(script, script))
  t.match(out, "2\t4\t6\n", "node one", ":3 is not allowed here", "No such file",
    "allowed:1: neither a digest nor a name")
end

tests["an error about a missing file names the directory on the node"] = function()
  local out = run("mkdir $dir/there; cd $dir/there; node one 1; cd ..; " ..
    '"$FZLUA" --engine $url ' .. t.file [[
    local function try(f, ...)
      for _, name in ipairs{...} do print((select(2, pcall(fz.map, f, {name})).message)) end
    end
    try(function(name) return assert(io.open(name)) end, "data/x", "/nowhere/x", "a: b")
    try(function(name) for _ in io.lines(name) do return 1 end end, "data/y")
    try(error, "No such file or directory")
    try(dofile, "data/z", "/nowhere/z")
    try(error, "data/x: No such file or directory\0!")
  ]])
  local lines = {}
  for line in out:gmatch "[^\n]+" do lines[#lines + 1] = line:gsub("^.-lua_%w+:%d+: ", "") end
  local hint = " %(relative names begin in /tmp/fzlua%-nats%-%w+/there on this node: use absolute "
    .. "names, or start the node in the directory of the files%)$"
  for i, text in ipairs { "data/x: No such file or directory", false,
    "a: b: No such file or directory",
    "cannot open file 'data/y' %(No such file or directory%)", false,
    "cannot open data/z: No such file or directory", false,
    "data/x: No such file or directory%z!" } do
    if text then assert(lines[i]:find("^" .. text .. hint), lines[i]) end
  end
  t.equal(lines[2], "/nowhere/x: No such file or directory")
  t.equal(lines[5], "No such file or directory")
  t.equal(lines[7], "cannot open /nowhere/z: No such file or directory")
end

tests["a node that is killed is a crash with its name, and another one takes the job"] = function()
  local script = t.file [[
    local f = function(path)
      local file = io.open(path)
      if file then file:close() return "again" end
      io.open(path, "w"):close()
      os.execute "sleep 77"
    end
    local ok, e = pcall(fz.map, f, {arg[1]}, {retries = tonumber(arg[2])})
    if ok then print(e[1]) else print(e.kind, e.node) end
  ]]
  local out = run(([[
    node one 1; "$FZLUA" --engine $url %s $dir/0 0 & script=$!
    until_true test -e $dir/0
    kill -9 $node; wait $script
    node one 1; victim=$node
    "$FZLUA" --engine $url %s $dir/1 1 & script=$!
    until_true test -e $dir/1
    node two 1; kill -9 $victim; wait $script
  ]]):format(script, script))
  t.match(out, "crash\tone\n", "again\n")
end

tests["how a worker died on a node is known"] = function()
  local out = run(([[
    node one 1; "$FZLUA" --engine $url %s
  ]]):format(t.file [[
    local pool <close> = fz.pool(1)
    for _, how in ipairs{"kill -9 $PPID", "kill -11 $PPID"} do
      local _, e = pcall(pool.apply, pool, os.execute, how)
      print(e.kind, e.node, e.signal, e.message)
    end
    print(select(2, pcall(pool.apply, pool, os.exit, 3)).exitcode)
  ]]))
  t.match(out, "crash\tone\t9\t", "crash\tone\t11\t", "\n3\n")
  assert(not out:find "closed its pipe", out)
end

tests["a node that gets SIGTERM finishes what runs and leaves"] = function()
  local out = run(([[
    node one 1; "$FZLUA" --engine $url %s $dir/begun & script=$!
    until_true test -e $dir/begun
    kill $node; wait $script; wait $node; echo left $?
  ]]):format(t.file [[
    print(fz.map(function(p) io.open(p, "w"):close() os.execute "sleep 0.5" return "done" end,
      {arg[1]})[1])
  ]]))
  t.match(out, "done\nleft 0\n")
end

tests["after kill -9 of the submitter its workers end"] = function()
  local out = run(([[
    node one 1; "$FZLUA" --engine $url %s $dir/pid & script=$!
    until_true test -s $dir/pid
    kill -9 $script; worker=$(cat $dir/pid)
    until_true is_gone $worker && echo ended
  ]]):format(t.file [[
    fz.map(function(p) os.execute("echo $PPID >" .. p .. "; exec sleep 77") end, {arg[1]})
  ]]))
  t.match(out, "ended\n")
end

-- The largest peak memory, in bytes, of the processes of a run: the script and all gateways.
local PEAK <const> = [[
local peak = 0
local function note(pid)
  local status <close> = io.open("/proc/" .. pid .. "/status")
  if status then peak = math.max(peak, tonumber(status:read "a":match "VmHWM:%s*(%d+)") << 10) end
end
local function children(pid)
  local list <close> = io.open(("/proc/%s/task/%s/children"):format(pid, pid))
  return list and list:read "a":gmatch "%d+" or function() end
end
local self = io.open "/proc/self/stat":read "n"
for child in children(self) do
  local line <close> = io.open("/proc/" .. child .. "/cmdline")
  if line and line:read "a":find("--submit", 1, true) then note(child) end
end
note(arg[1])
]]

tests["values of 64 MB go to a node and back, and the gateways hold a part of it"] = function()
  local out = run("node one 1; script out " .. t.file([[
    local pool <close> = fz.pool()
    local big = ("x"):rep(os.getenv "ASAN_OPTIONS" and 8 << 20 or 64 << 20)
    local s = pool:apply(function(s) return s:sub(2) .. "y" end, big)
    print(#s == #big, s:sub(-2))
  ]] .. PEAK .. [[
    print(os.getenv "ASAN_OPTIONS" or peak < 64 << 20 or peak)
  ]]) .. " $node; wait $script; cat $dir/out")
  t.match(out, "true\txy\n")
  assert(os.getenv "ASAN_OPTIONS" or out:find "\ntrue\n", out)
end

tests["many values need little memory, also if the loop is slow"] = function()
  local out = run("node one 2; script out " .. t.file([[
    local pool <close> = fz.pool()
    local n, bytes = 0, 0
    local function source()
      n = n + 1
      if n <= 500 then return ("x"):rep(100000) end
    end
    for i, s in pool:imap(function(s) return s end, source) do
      bytes = bytes + #s
      if i < 100 then fz.sleep(0.002) end
    end
    print(bytes)
  ]] .. PEAK .. [[
    note(self)
    print(peak < 40 << 20 or peak)
  ]]) .. " $node; wait $script; cat $dir/out")
  t.match(out, "50000000\n")
  assert(os.getenv "ASAN_OPTIONS" or out:find "\ntrue\n", out)
end

tests["an empty FZLUA_ENGINE is none"] = function()
  local out = run [[
    export FZLUA_ENGINE=; "$FZLUA" -e 'print(fz.map(function(x) return x end, {7})[1])'
    "$FZLUA" --nodes
    "$FZLUA" --worker 0.0.0 </dev/null | tr -d '\0' | grep -oc 'the node has fzlua'
  ]]
  t.equal(out, "7\nfzlua: --nodes needs --engine URL\n1\n")
end

-- A submitter that notes when its calls begin and end. Arguments: its name, the file for the notes,
-- the number of calls.
local NOTES <const> = [[
  local name, path = arg[1], arg[2]
  local function note(what)
    local file <close> = assert(io.open(path, "a"))
    file:write(what, " ", name, "\n")
  end
  local list = {}
  for i = 1, tonumber(arg[3]) do list[i] = i end
  local out = fz.map(function(x)
    note "begin"
    os.execute "sleep 0.05"
    note "end"
    return x
  end, list, {timeout = 20})
  print(name, #out)
]]

-- Returns three values: the maximum number of calls that ran at once; line number -> submitter, for
-- the lines with "begin"; submitter -> number of its last such line.
local function read_notes(notes)
  local running, most, n, begun, last = 0, 0, 0, {}, {}
  for what, name in notes:gmatch "(%l+) (%l+)\n" do
    n = n + 1
    running = running + (what == "begin" and 1 or -1)
    most = math.max(most, running)
    begun[n] = what == "begin" and name or nil
    last[name] = what == "begin" and n or last[name]
  end
  return most, begun, last
end

tests["two submitters share the slots of a node, and neither starves"] = function()
  local script = t.file(NOTES)
  local out = run(([[
    node one 2; touch $dir/notes
    "$FZLUA" --engine $url %s first $dir/notes 120 & first=$!
    until_true eval 'test $(wc -l <$dir/notes) -gt 8'
    "$FZLUA" --engine $url %s second $dir/notes 20 & second=$!
    wait $second $first; echo notes; cat $dir/notes
  ]]):format(script, script))
  t.match(out, "first\t120\n", "second\t20\n")
  local most, begun, last = read_notes(out:match "notes\n(.*)")
  t.equal(most, 2)
  local counts, seen = { first = 0, second = 0 }, false
  for i = 1, last.second do
    seen = seen or begun[i] == "second"
    if seen and begun[i] then counts[begun[i]] = counts[begun[i]] + 1 end
  end
  t.equal(counts.second, 20)
  -- The first submitter begins 20 calls if answers take no time, more on a busy machine, and 110
  -- if the second one gets no slot until the first has ended.
  assert(counts.first >= 5 and counts.first <= 80, counts.first)
end

tests["a call that waits for a slot does not use up its timeout"] = function()
  local long, short = t.file [[
    fz.map(function(path)
      io.open(path, "w"):close()
      os.execute "sleep 2.5"
    end, {arg[1]})
  ]], t.file [[
    print(fz.map(function(x) return x end, {"in time"}, {timeout = 0.2})[1])
  ]]
  local out = run(([[
    node one 1; "$FZLUA" --engine $url %s $dir/begun & script=$!
    until_true test -e $dir/begun
    "$FZLUA" --engine $url %s; wait $script
  ]]):format(long, short))
  t.equal(out, "in time\n")
end

tests["an idle worker returns its slot, and a killed one loses it"] = function()
  local out = run(([[
    node one 1; "$FZLUA" --engine $url %s
  ]]):format(t.file [[
    local pools = {}
    for i = 1, 3 do pools[i] = fz.pool(1) end
    for _ = 1, 3 do
      for i, pool in ipairs(pools) do io.write(pool:apply(function() return i end), " ") end
    end
    print(pcall(pools[1].apply, pools[1], function() os.execute "kill -9 $PPID" end))
    print(pools[2]:apply(function() return "free" end))
    for _, pool in ipairs(pools) do pool:close() end
  ]]))
  t.match(out, "1 2 3 1 2 3 1 2 3 false", "\nfree\n")
end

return tests
