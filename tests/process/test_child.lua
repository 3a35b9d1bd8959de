-- test_child.lua - the state of a child after its fork, and after each call.

local t = ...
local fz = require "fzlua"
local lfs = require "lfs"

local tests = {}

local left, held -- set by calls; a worker keeps both for its next call

-- Call f() while there is a child of each kind.
local function among_children(f)
  local fifo = os.tmpname()
  os.remove(fifo)
  os.execute("mkfifo " .. fifo)
  local go = fz.event()
  local pool <close> = fz.pool(1)
  local manager <close> = fz.manager()
  local stage = fz.stage { name = "s", workers = 1 }
  stage:register("A", {}, function() return 1 end)
  local chain <close> = stage >> fz.stage "end"
  local process <close> = fz.process(function() go:wait() end):start()
  manager:dict().a = 1
  chain:invoke {}
  t.equal(process:is_alive(), true)
  pool:apply_async(function() end, {}, { callback = function()
    f()
    go:set()
    io.open(fifo, "w"):close()
  end })
  fz.exec { "cat", fifo } -- among_children() calls f() during this wait
  os.remove(fifo)
end

-- Whether close(stream) returns although there are children: it waits for a program, which sees
-- EOF only if no other process has the pipe open.
local function ends(open, close)
  local stream = open()
  local ended = false
  among_children(function()
    close(stream)
    ended = true
  end)
  return ended
end

tests["the end of a pipe that the script writes is seen while children live"] = function()
  local path = os.tmpname()
  t.files[#t.files + 1] = path
  t.equal(ends(function()
    local out = io.popen("cat > " .. path, "w")
    out:write "kept"
    return out
  end, io.close), true)
  t.equal(io.open(path):read "a", "kept")
end

tests["a program whose output the script stops reading ends while children live"] = function()
  t.equal(ends(function()
    local yes = io.popen "yes"
    yes:read()
    return yes
  end, io.close), true)
end

tests["the reader of a FIFO sees its end while children live"] = function()
  local fifo, got = os.tmpname(), t.file ""
  os.remove(fifo)
  os.execute("mkfifo " .. fifo)
  local reader = io.popen(("cat %s > %s"):format(fifo, got))
  t.equal(ends(function() return assert(io.open(fifo, "w")) end, function(out)
    out:write "all"
    out:close()
    reader:close()
  end), true)
  os.remove(fifo)
  t.equal(io.open(got):read "a", "all")
end

tests["a pipe of the script cannot be used in a worker, and reaches no other file"] = function()
  local out <close> = io.popen("cat >/dev/null", "w")
  local path = os.tmpname()
  t.files[#t.files + 1] = path
  local result = fz.map(function()
    local file = io.open(path, "w") -- the file gets the lowest free descriptor
    local ok, why = out:write "not there"
    if ok then ok, why = out:flush() end
    file:close()
    return { not not ok, why }
  end, { 1 })[1]
  t.equal(result, { false, "Bad file descriptor" })
  t.equal(io.open(path):read "a", "")
end

tests["a file of the script can be read and written in a worker"] = function()
  local path = t.file "first\nsecond\n"
  local file <close> = io.open(path, "a+")
  t.equal(fz.map(function()
    file:seek "set"
    local line = file:read()
    file:write "third\n"
    file:close()
    return line
  end, { 1 })[1], "first")
  t.equal(io.open(path):read "a", "first\nsecond\nthird\n")
end

tests["what children leave in open files is written, once"] = function()
  local kept = t.file ""
  local mine <close> = io.open(kept, "w")
  mine:write "script\n"
  local paths = {}
  for i = 1, 6 do paths[i] = t.file "" end
  local function leave(i)
    left = io.open(paths[i], "w")
    left:write("line ", i, "\n")
    mine:write("worker ", i, "\n")
  end
  local p = fz.process(leave, 1):start()
  p:join()
  local q = fz.process(function() leave(2) os.exit(3) end):start()
  q:join()
  local pool = fz.pool(1)
  pool:apply(leave, 3)
  pool:close()
  pool:join()
  local chain = fz.stage "s" >> fz.stage "end"
  chain[1]:register("A", {}, function() leave(4) end)
  chain:invoke {}
  chain:close()
  local m = fz.manager()
  local function leave_alone(i)
    left = io.open(paths[i], "w")
    left:write("line ", i, "\n")
  end
  m:dict({ n = 5 }):update("n", leave_alone)
  m:close()
  do
    local scope <close> = fz.manager()
    scope:dict({ n = 6 }):update("n", leave_alone)
  end
  for i = 1, 6 do t.equal(io.open(paths[i]):read "a", ("line %d\n"):format(i)) end
  mine:close()
  t.equal(select(2, io.open(kept):read "a":gsub("script", "")), 1)
  t.equal({ p.exitcode, q.exitcode }, { 0, 3 })
  pool:terminate()
end

tests["no os.exit runs a finalizer or closes a variable of the script in a child"] = function()
  local out, err, status = t.command("-e", [[
local exit, main = os.exit, fz.current_process().pid
local function tell(what)
  return function() if fz.current_process().pid ~= main then print(what) end end
end
local kept <const> = setmetatable({}, { __gc = tell "finalized in a child" })
local scope <close> = setmetatable({}, { __close = tell "closed in a child" })
local chain = fz.stage "s" >> fz.stage "end"
chain[1]:register("A", {}, function() exit(7, true) end)
print((pcall(chain.invoke, chain, {})))
for _, code in ipairs { true, false, 5 } do
  local p = fz.process(function() exit(code, true) end):start()
  p:join()
  print(p.exitcode)
end
exit(9, true)]])
  t.equal({ out, err, status }, { "false\n0\n1\n5\n", "", 9 })
end

tests["a call that changes the working directory changes it for no later one"] = function()
  local home = lfs.currentdir()
  local function move(i)
    local from = lfs.currentdir()
    lfs.chdir(i % 2 == 0 and "/" or "..")
    if i % 3 == 0 then error "moved" end
    return from
  end
  local function check(result)
    for i = 1, 9 do t.equal(result[i], i % 3 ~= 0 and home or nil) end
    t.equal(lfs.currentdir(), home)
  end
  local list = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }
  for jobs = 0, 2 do
    check(fz.map(move, list, { jobs = jobs, on_error = "continue" }))
    local stage = fz.stage { name = "s", workers = 1 }
    for i = 1, 9 do stage:register(tostring(i), {}, function() return move(i) end) end
    local chain <close> = stage >> fz.stage "end"
    chain:invoke({}, { jobs = jobs, on_error = "continue" })
    local outputs = {}
    for i = 1, 9 do outputs[i] = chain.output[tostring(i)] end
    check(outputs)
  end
  local pool <close> = fz.pool(1)
  check(pool:map(move, list, { on_error = "continue" }))
  check(pool:map(move, list, { on_error = "continue", chunksize = 1 }))
  local applied = {}
  for i = 1, 9 do
    local ok, from = pcall(pool.apply, pool, move, i)
    applied[i] = ok and from or nil
  end
  check(applied)
end

tests["calls begin in the directory that init goes to"] = function()
  local home = lfs.currentdir()
  local function init() lfs.chdir "/usr" end
  local function move()
    local from = lfs.currentdir()
    lfs.chdir "bin"
    return from
  end
  local pool <close> = fz.pool { workers = 1, init = init }
  t.equal(pool:map(move, { 1, 2, 3 }), { "/usr", "/usr", "/usr", n = 3 })
  t.equal(pool:apply(move), "/usr")
  for jobs = 0, 1 do
    local stage = fz.stage { name = "s", workers = 1, init = init }
    for i = 1, 3 do stage:register("o" .. i, {}, move) end
    local chain <close> = stage >> fz.stage "end"
    for _ = 1, 2 do
      t.equal(chain({}, { jobs = jobs }), { o1 = "/usr", o2 = "/usr", o3 = "/usr" })
      t.equal(lfs.currentdir(), home)
    end
  end
end

tests["a packer that changes the working directory changes it for no later call"] = function()
  local home = lfs.currentdir()
  local Mover = { __name = "child.Mover" }
  Mover.__fzpack = function() lfs.chdir "/" return 1 end
  Mover.__fzunpack = function() return setmetatable({}, Mover) end
  fz.register_class("child.Mover", Mover)
  local pool <close> = fz.pool(1)
  local where = pool:map(function(i)
    if i % 2 == 0 then return lfs.currentdir() end
    return setmetatable({}, Mover)
  end, { 1, 2, 3, 4 })
  t.equal({ where[2], where[4] }, { home, home })
end

tests["a worker that holds more than a call may have is replaced first"] = function()
  local pool <close> = fz.pool(1)
  local function hold(mib)
    held = held or mib > 0 and ("x"):rep(mib << 20) or nil
    return { fz.current_process().pid, held and #held >> 20 or 0 }
  end
  local first = pool:apply(hold, 40)
  t.equal(pool:apply(hold, 0), first)
  local function call(memory)
    return pool:map(hold, { 0 }, { memory = memory })[1]
  end
  t.equal(call "100M", first) -- the worker uses less than 100 MB
  local second = call "20M"
  t.equal({ second[1] ~= first[1], second[2] }, { true, 0 })
  t.equal(call "20M", second)
  -- The limit counts all memory since the fork, including the memory of earlier calls.
  pool:apply(hold, 15)
  -- A table, because Lua 5.4.0 raises another error if a string is too long.
  t.fails("memory", pool.map, pool, function()
    local list = {}
    for i = 1, 1 << 20 do list[i] = i end
    return #list
  end, { 1 }, { memory = "20M" })
end

tests["a call that is given to another worker for its memory is no attempt"] = function()
  local stage = fz.stage { name = "s", workers = 1 }
  stage:register("A", {}, function() held = ("x"):rep(40 << 20) return 1 end)
  stage:register("B", {}, function() return held == nil end, { memory = "20M", retries = 0 })
  local kinds = {}
  local chain <close> = stage >> fz.stage "end"
  chain:invoke({}, { progress = function(_, _, event) kinds[event.kind] = true end })
  t.equal({ chain.output.B, kinds.retry, kinds.failed }, { true })
end

tests["SIGTERM ends a process of a command that was started with it blocked"] = function()
  local out, err, status = t.shell [[env --block-signal=TERM --ignore-signal=CHLD "$FZLUA" -e '
local p = fz.process(function() while true do end end):start()
p:terminate()
print(p:join(20), p.exitcode)
local q = fz.process(function() os.exit(7) end):start()
print(q:join(20), q.exitcode)
print(fz.exec({ "sh", "-c", "kill -TERM $$; exit 5" }).signal)
print(fz.exec({ "sh", "-c", "exit 6" }).exitcode, io.popen "exit 8":close())']]
  t.equal({ out, err, status }, { "true\t-15\ntrue\t7\n15\n6\tnil\texit\t8\n", "", 0 })
end

tests["standard files that are closed stay so, and what workers print is no error"] = function()
  local script = [["$FZLUA" -e '
local result = fz.map(function(i) print(i) io.stderr:write(i) return i end, { 1, 2 })
local fds = fz.exec({ "sh", "-c", "readlink /proc/$$/fd/0" }).stdout
io.open("%s", "w"):write(result[1], result[2], fds)'  %s]]
  for _, closed in ipairs { ">&-", "2>&-", "<&-", "<&- >&- 2>&-" } do
    local path = t.file ""
    t.shell(script:format(path, closed))
    t.equal(io.open(path):read "a", "12/dev/null\n")
  end
end

tests["the command has all descriptors it may have, and a program those of the shell"] = function()
  local out = t.shell [[ulimit -Sn 300; ulimit -Hn 900; "$FZLUA" -e '
local function limit() return io.popen "ulimit -n":read "n" end
print(limit(), fz.map(limit, { 1 })[1], fz.exec({ "sh", "-c", "ulimit -n" }).stdout)']]
  t.equal(out, "900\t900\t300\n\n")
end

tests["a program that a spawned worker starts has the limit of the shell, too"] = function()
  local out = t.shell [[ulimit -Sn 300; ulimit -Hn 900; "$FZLUA" -e '
local pool <close> = fz.pool{workers = 1, start = "spawn"}
print(pool:apply(function() return fz.exec{"sh", "-c", "ulimit -n"}.stdout end))']]
  t.equal(out, "300\n\n")
end

return tests
