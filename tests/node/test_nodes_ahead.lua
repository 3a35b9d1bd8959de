-- Quick jobs are sent ahead to a node, which holds them. A shell script replaces ssh. For the host
-- `seen` it also writes all bytes that it passes to the node to the file $CALLS.
local t = ...
local tests = {}

local SSH <const> = [[
for word; do host=$command command=$word; done
case $host in
# The node makes its output non-blocking, which would be the input of tee.
seen) tee -a "$CALLS" | setsid -w sh -c "$command" | cat ;;
*) exec setsid -w sh -c "$command" ;;
esac
]]

-- Functions for the scripts: `quick` and `long` are jobs; `long` lasts until its file exists.
local JOBS <const> = [[
local path, log = arg[1], arg[2]
local quick = function(x) return x end
local long = function(name)
  local n = 0
  repeat os.execute "sleep 0.02" n = n + 1 until io.open(name) or n == 1500
  return n < 1500
end
local function warm(pool)
  local list = {}
  for i = 1, 500 do list[i] = pool:apply_async(quick, {i}) end
  for i = 1, 500 do list[i]:get() end
end
local note = function(name, x)
  local file <close> = io.open(name, "a")
  file:write(x, "\n")
  return x
end
local function noted()
  local counts = {}
  for line in io.lines(log) do counts[tonumber(line)] = (counts[tonumber(line)] or 0) + 1 end
  return counts
end
]]

-- Run a script on nodes with the names of two files, the first of which does not exist. The script
-- must succeed. Returns its output.
local function run(url, code)
  local calls, path, log = t.file "", t.file "", t.file ""
  os.remove(path)
  local out, err, status = t.shell(([[
    FZLUA_SSH='sh %s' FZLUA_WORKER_COMMAND=%s CALLS=%s "$FZLUA" --engine %s %s %s %s
  ]]):format(t.file(SSH), t.fzlua, calls, url, t.file(JOBS .. code), path, log))
  t.equal({ err, status }, { "", 0 })
  return out
end

tests["jobs are there before the one in front of them has ended"] = function()
  t.equal(run("ssh://seen:1", [[
    local pool <close> = fz.pool(1)
    warm(pool)
    local first = pool:apply_async(long, {path})
    local second = pool:apply_async(quick, {"this is ahead"})
    local n = 0
    repeat
      fz.sleep(0.02)
      n = n + 1
      local file <close> = io.open(os.getenv "CALLS")
    until file:read "a":find "this is ahead" or n == 1500
    io.open(path, "w"):close()
    print(first:get(), second:get())
  ]]), "true\tthis is ahead\n")
end

tests["jobs behind a long one go to another node"] = function()
  t.equal(run("ssh://one:1,two:1", [[
    local pool <close> = fz.pool(2)
    warm(pool)
    local first = pool:apply_async(long, {path})
    local list, sum = {}, 0
    for i = 1, 200 do list[i] = pool:apply_async(note, {log, i}) end
    for i = 1, 200 do sum = sum + list[i]:get() end
    io.open(path, "w"):close()
    local counts = noted()
    for i = 1, 200 do assert(counts[i] == 1, i) end
    print(first:get(), sum)
  ]]), "true\t20100\n")
end

tests["results of quick items do not wait for a long item behind them"] = function()
  t.equal(run("ssh://one:1", [[
    local pool <close> = fz.pool(1)
    local function f(x) return x == 301 and long(path) or x end
    local items = {}
    for i = 1, 302 do items[i] = i end
    for i, v in pool:imap(f, items, {chunksize = 302, inflight = 302}) do
      if i == 300 then io.open(path, "w"):close() end
      if i == 301 then print(v) end
    end
  ]]), "true\n")
end

tests["a worker that dies costs the job that killed it, and no job runs twice"] = function()
  t.equal(run("ssh://one:1,two:1", [[
    local pool <close> = fz.pool(2)
    warm(pool)
    local f = function(name, x)
      local file <close> = io.open(name, "a")
      file:write(x, "\n")
      file:close()
      if x % 50 == 25 then os.execute "kill -9 $PPID" end
      return x
    end
    local list, sum = {}, 0
    for i = 1, 200 do list[i] = pool:apply_async(f, {log, i}) end
    for i = 1, 200 do
      local ok, value = pcall(list[i].get, list[i])
      if ok then sum = sum + value else print(i, value.kind, value.signal) end
    end
    local counts = noted()
    for i = 1, 200 do assert(counts[i] == 1, i) end
    print(sum)
  ]]), "25\tcrash\t9\n75\tcrash\t9\n125\tcrash\t9\n175\tcrash\t9\n19700\n")
end

tests["a worker that dies in a map costs one item, and no item runs twice"] = function()
  t.equal(run("ssh://one:1", [[
    local list = {}
    for i = 1, 400 do list[i] = i end
    local function f(x)
      note(log, x)
      if x == 250 then os.execute "kill -9 $PPID" end
      return x
    end
    local r = fz.map(f, list, {chunksize = 400, on_error = "continue"})
    local counts = noted()
    for i = 1, 400 do assert(counts[i] == 1 and (r[i] == i or i == 250), i) end
    print(r.errors[250].kind)
  ]]), "crash\n")
end

tests["a cancelled job costs no other job of its worker"] = function()
  t.equal(run("ssh://one:1", [[
    local pool <close> = fz.pool(1)
    warm(pool)
    local first = pool:apply_async(long, {path})
    local list = {}
    for i = 1, 20 do list[i] = pool:apply_async(quick, {i}) end
    fz.sleep(0.05)
    for i = 1, 20, 2 do list[i]:cancel() end
    io.open(path, "w"):close()
    print(first:get())
    for i = 2, 20, 2 do assert(list[i]:get() == i) end
    -- the job in front: its worker ends
    os.remove(path)
    local function note_pid(name)
      local file <close> = io.open(name, "w")
      file:write(fz.current_process().pid)
      file:close()
      os.execute "sleep 77"
    end
    local last, pid = pool:apply_async(note_pid, {path}), nil
    for i = 1, 20 do list[i] = pool:apply_async(quick, {i}) end
    repeat
      fz.sleep(0.02)
      local file <close> = io.open(path)
      pid = file and file:read "n"
    until pid
    last:cancel()
    for i = 1, 20 do assert(list[i]:get() == i) end
    repeat fz.sleep(0.02) until not io.open(("/proc/%d/stat"):format(pid))
    print(pcall(last.get, last))
  ]]), "true\nfalse\tcancelled\n")
end

tests["a job whose time is up costs no other job an attempt"] = function()
  t.equal(run("ssh://one:1", [[
    local pool <close> = fz.pool(1)
    warm(pool)
    local f = function(x) if x == 30 then os.execute "sleep 77" end return x end
    local list, sum = {}, 0
    for i = 1, 100 do list[i] = pool:apply_async(f, {i}, {timeout = 2}) end
    for i = 1, 100 do
      local ok, value = pcall(list[i].get, list[i])
      if ok then sum = sum + value else print(i, value.kind) end
    end
    print(sum)
  ]]), "30\ttimeout\n5020\n")
end

tests["each attempt has one start and one end"] = function()
  t.equal(run("ssh://one:1,two:1", [[
    local pool <close> = fz.pool(2)
    warm(pool)
    local f = function(name, x)
      local first = not io.open(name .. x)
      if x % 20 == 7 and first then
        io.open(name .. x, "w"):close()
        os.execute "kill -9 $PPID"
      end
      os.remove(name .. x)
      return x
    end
    local items, counts = {}, {}
    for i = 1, 100 do items[i] = {path, i} end
    local function progress(_, _, e)
      counts[e.kind] = (counts[e.kind] or 0) + 1
    end
    local list = pool:starmap(f, items, {retries = 1, chunksize = 1, progress = progress})
    for i = 1, 100 do assert(list[i] == i) end
    print(counts.start, counts.done, counts.retry, counts.failed)
  ]]), "105\t100\t5\tnil\n")
end

tests["a dag of quick functions is the same"] = function()
  t.equal(run("ssh://one:2,two:2", [[
    local dag <close> = fz.dag()
    local function add(a, b) return (3 * a + (b or 1)) % 1000003 end
    math.randomseed(1)
    for i = 1, 400 do
      local needs = {"v" .. math.random(0, i - 1)}
      local other = "v" .. math.random(0, i - 1)
      if other ~= needs[1] then needs[2] = other end
      dag:add("v" .. i, needs, add)
    end
    local function sum(options)
      local output, total = dag:invoke({v0 = 1}, options).output, 0
      for i = 1, 400 do total = total + output["v" .. i] end
      return total
    end
    local here = sum{jobs = 0}
    for _ = 1, 3 do assert(sum{keep = "all"} == here) end
    print "same"
  ]]), "same\n")
end

-- Item 50 kills the process on its node before that process has reported the start of the item.
local POISON <const> = [[
local cpath, kind = arg[1], arg[2]
local f = function(x)
  if not package.cpath:find(cpath, 1, true) then package.cpath = cpath .. ";" .. package.cpath end
  local kill = require "ltest".kill
  local stat <close> = io.open "/proc/self/stat"
  if x == 50 then
    kill(tonumber(stat:read "a":match "%) %a (%d+)"), 9)
    while true do end
  end
  return x
end
local failed, list = {}, {}
local function note(i, ok, e)
  if not ok then failed[#failed + 1] = ("%d %s %s"):format(i, e and e.kind, e and e.attempt) end
end
for i = 1, 200 do list[i] = i end
if kind == "calls" then
  local pool <close> = fz.pool {workers = 1, retries = 2}
  for i in ipairs(list) do list[i] = pool:apply_async(f, {i}) end
  for i, result in ipairs(list) do note(i, pcall(result.get, result)) end
elseif kind == "map" then
  local results, e = fz.map(f, list, {retries = 2, on_error = "continue"})
  for i = 1, 200 do note(i, results[i] == i, e) end
else
  local s = fz.stage()
  s:register("B", "A", f)
  local chain <close> = fz.chain {s}
  for i in ipairs(list) do list[i] = {A = i} end
  for i, out in chain:stream(list, {retries = 2, on_error = "continue"}) do
    note(i, out and out.B == i)
  end
end
print(table.concat(failed, ", "))
]]

for kind, expected in pairs { calls = "50 crash 3", map = "50 ", stream = "50 " } do
  tests["a job that ends its node costs no other job: " .. kind] = function()
    local out, _, status = t.shell(([[
      FZLUA_SSH='sh %s' FZLUA_WORKER_COMMAND=%s "$FZLUA" --engine ssh://one:1 %s '%s' %s
    ]]):format(t.file(SSH), t.fzlua, t.file(POISON), t.fzlua:match "^.*/" .. "tests/?.so", kind))
    assert(out:find("^" .. expected .. "[^,]*\n$"), out)
    t.equal(status, 0)
  end
end

-- Until the file $DIR/go exists, the program passes on all bytes to and from the node. Then it
-- makes $DIR/stopped. When $DIR/sent exists, it ends, and prints how many bytes have come to the
-- node, or $REACHED.
local LOST <const> = [[
for word; do host=$command command=$word; done
test $host = lost || exec setsid -w sh -c "$command"
test ! -e $DIR/go || exit 1
exec 4<&0
{ tee $DIR/passed <&4 & echo $! >$DIR/tee; wait; } | setsid -w sh -c "$command" |
    { cat <&5 & echo $! >$DIR/cat; wait; } 5<&0 &
until test -e $DIR/go; do sleep 0.02; done
for name in cat tee; do
  pid=$(cat $DIR/$name); kill $pid; while kill -0 $pid; do sleep 0.02; done 2>/dev/null
done
: >$DIR/stopped
until test -e $DIR/sent; do sleep 0.02; done
printf '\001%s\nit was cut off\n' ${REACHED:-$(wc -c <$DIR/passed)} >&2
exit 1
]]

tests["a job without retries that has not come to a lost node goes to another one"] = function()
  local function try(reached)
    return (t.shell(([[
      DIR=$(mktemp -d /tmp/fzlua-lost-XXXXXX) FZLUA_SSH='sh %s' FZLUA_WORKER_COMMAND=$FZLUA; %s
      export DIR FZLUA_SSH FZLUA_WORKER_COMMAND
      "$FZLUA" --engine ssh://lost:1,other:1 %s $DIR; rm -r $DIR
    ]]):format(t.file(LOST), reached, t.file [[
      local dir = arg[1]
      local function make(name) io.open(dir .. "/" .. name, "w"):close() end
      local pool <close> = fz.pool(1)
      pool:apply(function() end)
      make "go"
      while not io.open(dir .. "/stopped") do fz.sleep(0.02) end
      local calls = {}
      for i = 1, 3 do calls[i] = pool:apply_async(function(x) return x end, {i}) end
      fz.sleep(0.05)
      make "sent"
      for i = 1, 3 do
        local ok, e = pcall(calls[i].get, calls[i])
        print(ok and e or e.kind, ok and "" or e.message)
      end
    ]])))
  end
  t.equal(try "", "1\t\n2\t\n3\t\n")
  -- The first call may have begun if its bytes have reached the node.
  t.equal(try "export REACHED=1000000",
    "crash\tnode lost is lost: it was cut off\n2\t\n3\t\n")
end

return tests
