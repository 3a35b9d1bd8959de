-- Files of recorded results that are damaged, full, shared, interrupted or cannot be used.
local t = ...
local core = require "fzlua.core"
local recorded = assert(loadfile "tests/support/recorded.lua")(t)
local new_path, read, write, run =
  recorded.new_path, recorded.read, recorded.write, recorded.run
local tests = {}

tests["a damaged, foreign or newer file is not used, and the run is right"] = function()
  local script = [[
local s = fz.stage "s"
s:register("A", {}, function() ran "A" return 1 end)
return fz.chain { s }]]
  local store = new_path()
  write(store, ("no database"):rep(1000))
  local cases = { { store, "the cache .- is not used: file is not a database" } }
  local foreign = new_path()
  local db = core.database(foreign, 1)
  db:run "CREATE TABLE t (x)"
  db:close()
  cases[2] = { foreign, "it is a database of another program" }
  local newer = new_path()
  run(script, newer)
  db = core.database(newer, 1)
  db:run "PRAGMA user_version = 99"
  db:close()
  cases[3] = { newer, "written by a newer fzlua %(the file has version 99" }
  cases[4] = { "/proc/no/such/file", "unable to open database file" }
  for _, case in ipairs(cases) do
    local before = read(case[1])
    local ran, out, err, status = run(script, case[1])
    t.equal({ ran, out, status }, { "A", "A = 1\n", 0 })
    assert(err:find(case[2]), err)
    t.equal(select(2, err:gsub("\n", "")), 1)
    t.equal(read(case[1]), before)
  end
end

-- OBEYS runs a command without root's right to write in any directory.
local OBEYS <const> = "setpriv --bounding-set=-dac_override,-dac_read_search true"
local OBEY <const> = [[
if [ $(id -u) = 0 ]; then
  exec setpriv --bounding-set=-dac_override,-dac_read_search "$@"
fi
exec "$@"]]

tests["results in a directory that may not be written are used, and none are recorded"] = function()
  if not os.execute(OBEYS .. " 2>/dev/null") then return end
  local directory, log = new_path(), new_path()
  os.execute("mkdir " .. directory)
  local store = directory .. "/cache.db"
  t.files[#t.files + 1] = store
  local script = [[
local s, other = fz.stage "s", fz.stage "other"
s:register("A", {}, function() ran "A" return 1 end)
if arg[1] then other:register("B", {}, function() ran "B" return 2 end) end
return fz.chain { s, other }]]
  t.equal({ run(script, store) }, { "A", "A = 1\n", "", 0 })
  local before, obey, file = read(store), t.file(OBEY), t.file(([[
local function ran(letter)
  local file <close> = io.open(os.getenv "LOG", "a")
  file:write(letter)
end
]] .. script):gsub("arg%[1%]", "true"))
  os.execute("chmod 555 " .. directory)
  for round = 1, 2 do
    local out, err, status = t.shell(("LOG=%s sh %s $FZLUA --resume=%s %s"):format(log, obey, store,
      file))
    t.equal({ out, status }, { "A = 1\nB = 2\n", 0 })
    assert(err:find "cache.db cannot be written: its results are used, but no new ones are", err)
    t.equal(select(2, err:gsub("\n", "")), 1)
    t.equal(read(log), ("B"):rep(round))
  end
  local out = t.shell(("sh %s $FZLUA --cache=ls --resume=%s"):format(obey, store))
  assert(out:find "s.A", out)
  t.equal(read(store), before)
  os.execute("chmod 755 " .. directory)
  os.remove(store)
  os.remove(directory)
end

local function change(store, sql)
  local db <close> = core.database(store, 1)
  db:run(sql)
end

tests["a result that cannot be read is computed anew, with a warning"] = function()
  local script = [[
local s = fz.stage "s"
s:register("A", {}, function() ran "A" return ("abc"):rep(100000) end)
return fz.chain { s }]]
  local store = new_path()
  local _, out = run(script, store)
  for _, sql in ipairs { "UPDATE results SET bytes = x'00'", "UPDATE results SET raw = 1",
    "UPDATE results SET raw = 1 << 40", "DELETE FROM results", "UPDATE results SET sum = x'00'",
    "INSERT INTO results SELECT key, 2, digest, sum, raw, bytes FROM results", "code" } do
    if sql == "code" then
      local bytes = core.encode(function() return 1 end)
      local db <close> = core.database(store, 1)
      db:run("UPDATE results SET raw = 0, bytes = ?, sum = ?", bytes, core.hash(bytes))
    else
      change(store, sql)
    end
    local ran, same, err = run(script, store)
    t.equal({ sql, ran, same }, { sql, "A", out })
    t.match(err, "the result of s.A cannot be read and is computed again")
    t.equal(select(2, err:gsub("\n", "")), 1)
    local again, third, silent = run(script, store)
    t.equal({ again, third, silent }, { "", out, "" })
  end
end

tests["the value of another call, to which a damaged index leads, is not used"] = function()
  local script = [[
local s = fz.stage "s"
s:register("A", {}, function() ran "A" return 1 end)
s:register({ "B", "C" }, {}, function() ran "B" return 2, 3 end)
return fz.chain { s }]]
  for _, swap in ipairs {
    -- the values of two calls
    "UPDATE results SET key = (SELECT max(key) FROM calls WHERE key <> results.key) WHERE i = 1",
    -- the two values of a call
    "UPDATE results SET i = 3 - i WHERE key IN (SELECT key FROM results WHERE i = 2)",
  } do
    local store = new_path()
    local _, out = run(script, store)
    change(store, "DROP INDEX results_key")
    change(store, swap)
    change(store, "CREATE UNIQUE INDEX results_key ON results (key, i)")
    local ran, same, err = run(script, store)
    t.equal(same, out)
    t.match(ran, "B")
    t.match(err, "the result of s.B,C cannot be read and is computed again: its bytes have changed")
    t.equal({ run(script, store) }, { "", out, "", 0 })
  end
end

tests["rows of a build whose checksums cover the bytes alone are used"] = function()
  local store = new_path()
  local ran, out = run(recorded.TWO_STAGES, store, "A=1", "B=2")
  t.equal(ran, "ABC")
  do
    local db <close> = core.database(store, 1)
    for _, row in ipairs(db:run "SELECT key, i, bytes FROM results") do
      local sum = core.hash(row[3])
      db:run("UPDATE results SET sum = ? WHERE key = ? AND i = ?", sum, row[1], row[2])
    end
  end
  t.equal({ run(recorded.TWO_STAGES, store, "A=1", "B=2") }, { "", out, "", 0 })
end

-- A database with one recorded value, and the statement that reads it.
local function one_value(value, i)
  local db, bytes = core.database(new_path(), 1), core.encode(value)
  db:run "CREATE TABLE calls (key, i, sum, bytes)"
  db:run("INSERT INTO calls VALUES (?, ?, ?, ?)", "key", i, core.hash(bytes), bytes)
  return db, "SELECT key, 0, 1, i, sum, sum, 0, bytes FROM calls WHERE key = ?"
end

tests["values belong to the process that has read them"] = function()
  local value = ("abc"):rep(1000000)
  local db <close>, sql = one_value(value, 1)
  local results, places = core.results(db, sql, { "key" }, 1, 0, {})
  t.equal(places, { 1 })
  local process = fz.process(function()
    local ok, e = pcall(results.bytes, results, 1)
    results:close()
    return ok, e
  end)
  process:start()
  local whether, why = process:result()
  t.equal(whether, false)
  t.match(why, "no such value")
  t.equal(core.decode(results:bytes(1)), value)
  results:close()
  t.match(select(2, pcall(results.bytes, results, 1)), "no such value")
end

tests["a value with any number is not among those of its call"] = function()
  for _, i in ipairs { math.maxinteger, math.mininteger, -1, 0, 2 } do
    local db <close>, sql = one_value(1, i)
    local _, places, _, odd = core.results(db, sql, { "a", "key" }, 1, 0, {})
    t.equal({ i, places, odd }, { i, { false, false }, { [2] = "it is incomplete" } })
  end
end

tests["once nothing is recorded any more, no use of a result is noted"] = function()
  local Store = require "fzlua.store"
  local value = fz.file(t.file "")
  local call = { key = ("k"):rep(16), name = "s.A", func = "", names = {}, inputs = {},
    files = true, n = 1 }
  for _, full in ipairs { true, false } do
    local path = new_path()
    local store <close> = Store.open(path)
    store:add(call, { core.encode(value) }, { core.digest_in({}, value) })
    store:flush()
    store._db:run "UPDATE calls SET tick = tick - 20"
    store.read_only = full
    assert(store:find(call.key, call))
    store:close()
    local db <close> = core.database(path, 1)
    t.equal(db:run "SELECT tick < 0 FROM calls"[1][1], full and 1 or 0)
  end
end

tests["a file that has lost its bytes is begun anew, with a warning"] = function()
  local script = [[
local s = fz.stage "s"
s:register("A", {}, function() ran "A" return 1 end)
return fz.chain { s }]]
  local store = os.tmpname() -- os.tmpname() makes an empty file
  for _, suffix in ipairs { "", "-wal", "-shm" } do t.files[#t.files + 1] = store .. suffix end
  t.equal({ run(script, store) }, { "A", "A = 1\n", "", 0 })
  write(store, "")
  os.execute(("touch -d '10 seconds' %s"):format(store)) -- this test is faster than a user
  local ran, out, err, status = run(script, store)
  t.equal({ ran, out, status }, { "A", "A = 1\n", 0 })
  t.match(err, ("the cache %s is an empty file: results that it had, if any, are lost\n")
    :format(store))
  t.equal(select(2, err:gsub("\n", "")), 1)
  t.equal({ run(script, store) }, { "", "A = 1\n", "", 0 })
end

tests["a file that is removed during a run is a warning, and the run is right"] = function()
  for _, command in ipairs { "rm -f STORE STORE-wal STORE-shm",
    "cp STORE STORE.2; mv STORE.2 STORE", "true" } do
    local store = new_path()
    local script = ([[
local s, u = fz.stage "s", fz.stage "u"
s:register("A", {}, function() ran "A" return 1 end)
u:register("B", "A", function(a) os.execute "CHANGE" return a + 1 end)
return fz.chain { s, u }]]):gsub("CHANGE", (command:gsub("STORE", store)))
    local ran, out, err, status = run(script, store)
    t.equal({ ran, out, status }, { "A", "A = 1\nB = 2\n", 0 })
    if command == "true" then
      t.equal({ err, run(script, store) }, { "", "", out, "", 0 })
    else
      t.match(err, store .. " was removed or replaced: what this run has recorded in it is lost\n")
      t.equal(select(2, err:gsub("\n", "")), 1)
    end
  end
end

tests["results without their call are replaced, with a warning"] = function()
  local script = [[
local s = fz.stage "s"
s:register("A", {}, function() ran "A" return 1 end)
return fz.chain { s }]]
  local store = new_path()
  run(script, store)
  change(store, "DELETE FROM calls")
  local ran, _, err = run(script, store)
  t.equal({ ran, select(2, err:gsub("\n", "")) }, { "A", 1 })
  t.match(err, "the result of s.A was lost and is computed again\n")
  ran, _, err = run(script, store)
  t.equal({ ran, err }, { "", "" })
end

tests["Ctrl-C during a run leaves a store that the next one uses"] = function()
  local script = t.file [[
local g = fz.dag()
for i = 1, 400 do g:add(("a%03d"):format(i), {}, function() return { i, ("x"):rep(i) } end) end
return g]]
  local wanted = t.shell("$FZLUA " .. script)
  local store = new_path()
  for delay = 1, 8 do
    t.shell(("timeout -s INT %.3f $FZLUA --resume=%s %s"):format(0.01 + delay * 0.004, store,
      script))
  end
  local out, err, status = t.shell(("$FZLUA --resume=%s %s"):format(store, script))
  t.equal({ out == wanted, err, status }, { true, "", 0 })
  local db <close> = core.database(store, 1)
  t.equal(db:run "SELECT count(*) FROM calls"[1][1], 400)
  t.equal(db:run "SELECT count(*) FROM results WHERE key NOT IN (SELECT key FROM calls)"[1][1],
    0)
end

tests["the file is damaged in its middle"] = function()
  local script = [[
local g = fz.dag()
for i = 1, 200 do
  g:add("a" .. i, {}, function() ran "." return { i, ("x"):rep(i * 10) } end, { version = "" .. i })
end
return g]]
  local store = new_path()
  local _, out = run(script, store)
  local bytes = read(store)
  assert(#bytes > 20000)
  for at = 1, 4 do
    local from = #bytes * at // 5
    write(store, bytes:sub(1, from) .. ("\xff"):rep(5000) .. bytes:sub(from + 5001))
    os.remove(store .. "-wal")
    local _, same, err, status = run(script, store)
    t.equal({ same == out, status }, { true, 0 })
    assert(select(2, err:gsub("is not used", "")) <= 1, err)
  end
end

tests["the message about a damaged file says what to do"] = function()
  local script = [[
local g = fz.dag()
for i = 1, 200 do g:add("a" .. i, {}, function() return ("x"):rep(i * 10) end) end
return g]]
  local store = new_path()
  run(script, store)
  local half = read(store)
  half = half:sub(1, #half // 2)
  write(store, half)
  local _, _, err = run(script, store)
  t.match(err, "is malformed; remove the file to begin a new one")
  _, err = t.shell(("$FZLUA --cache ls --resume=%s"):format(store))
  t.match(err, "is malformed; remove the file to begin a new one")
  t.equal(read(store), half)
end

tests["results used least recently are removed beyond FZLUA_CACHE_SIZE"] = function()
  local store = new_path()
  local script = t.file [[
local g = fz.dag()
for _, n in ipairs { N } do
  g:add("a" .. n, {}, function() io.stderr:write(n, ";") return string.pack("i8", n):rep(1000) end)
end
return g]]
  local function with(numbers)
    write(script, (([[
local g = fz.dag()
for _, n in ipairs { %s } do
  g:add("a" .. n, {}, function()
    io.stderr:write(n, ";")
    math.randomseed(n)
    local t = {}
    for i = 1, 5000 do t[i] = string.char(math.random(0, 255)) end
    return table.concat(t)
  end)
end
return g]]):format(numbers)))
    local _, err, status = t.shell(("FZLUA_CACHE_SIZE=20K FZLUA_CACHE=%s $FZLUA -j1 --resume %s")
      :format(store, script))
    t.equal(status, 0)
    return err
  end
  t.equal(with "1", "1;")
  t.equal(with "2", "2;")
  t.equal(with "3", "3;")
  t.equal(with "1", "") -- 2 is the one that was used least recently now
  t.equal(with "4", "4;")
  t.equal(with "1, 3", "")
  t.equal(with "2", "2;")
end

tests["a limit that is too small for one run is a warning"] = function()
  local store, script = new_path(), [[
local g = fz.dag()
for i = 1, 20 do
  g:add("a" .. i, {}, function() ran "a" return fz.digest(i):rep(60) .. i end)
end
return g]]
  local first = select(2, run(script, store))
  os.remove(store)
  local path = t.file("local function ran() end\n" .. script)
  for _ = 1, 2 do
    local out, err, status = t.shell(("FZLUA_CACHE_SIZE=20K $FZLUA -j1 --resume=%s %s")
      :format(store, path))
    t.equal({ out == first, status }, { true, 0 })
    t.match(err, ("the cache %s is too small for this run: "):format(store),
      "of its results were removed again; the limit FZLUA_CACHE_SIZE is 20480 bytes\n")
    t.equal(select(2, err:gsub("\n", "")), 1)
  end
end

-- Commands with a file system DIRECTORY of 300 KB, which no other process sees.
local SMALL_DISK <const> = [[
exec 2>&1
mount -t tmpfs -o size=300k tmpfs DIRECTORY || exit 9
for log in LOG LOG.2; do
  LOG=$log $FZLUA --resume=DIRECTORY/cache.db SCRIPT
done
$FZLUA --cache clear --resume=DIRECTORY/cache.db
rm DIRECTORY/*
$FZLUA -e 'io.open("DIRECTORY/rest", "w"):write(("x"):rep(290000))'
LOG=/dev/null $FZLUA --resume=DIRECTORY/cache.db SCRIPT]]

tests["on a full disk the results are used, and no more are recorded, with a warning"] = function()
  local directory, log = new_path(), new_path()
  t.files[#t.files + 1] = log .. ".2"
  local script = t.file [[
local g = fz.dag()
for i = 1, 100 do
  g:add("a" .. i, {}, function()
    local file <close> = io.open(os.getenv "LOG", "a")
    file:write "a"
    local t = {}
    for k = 1, 500 do t[k] = fz.digest(i, k) end
    return table.concat(t)
  end)
end
print(fz.digest(g:invoke().output))]]
  os.execute("mkdir " .. directory)
  local commands = SMALL_DISK:gsub("%u%u%u+", { DIRECTORY = directory, SCRIPT = script })
    :gsub("LOG LOG.2", log .. " " .. log .. ".2")
  local out, _, status = t.shell("unshare -rm sh " .. t.file(commands))
  os.remove(directory)
  if status ~= 0 then return end -- this process must not mount file systems
  local wanted = t.shell(("LOG=/dev/null $FZLUA %s"):format(script))
  local cache = ("the cache %s/cache.db"):format(directory)
  local full = ".- WARN .-: " .. cache .. ": database or disk is full: its results are used, "
    .. "but no new ones are recorded\n" .. wanted
  local cleared = "fzlua: " .. cache .. ": database or disk is full; free some space, or remove "
    .. "the file\n"
  local refused = ".- WARN .-: " .. cache .. " is not used: [^\n]+\n" .. wanted
  assert(out:find("^" .. full .. full .. cleared .. refused .. "$"), out)
  local first, second = #read(log), #read(log .. ".2")
  assert(first == 100 and second < 100, second)
end

tests["two runs use one file at the same time"] = function()
  local store = new_path()
  local script = t.file [[
local g = fz.dag()
for i = 1, 300 do g:add("a" .. i, {}, function() return { i, i * i } end) end
return g]]
  local command = ("$FZLUA --resume=%s %s"):format(store, script)
  local out, err, status = t.shell(("(%s >%s.1 & %s >%s.2 & %s >%s.3; wait)"):format(command,
    script, command, script, command, script))
  t.equal({ out, err, status }, { "", "", 0 })
  for i = 1, 3 do t.files[#t.files + 1] = script .. "." .. i end
  local first = read(script .. ".1")
  assert(#first > 1000 and first == read(script .. ".2") and first == read(script .. ".3"))
  local db <close> = core.database(store, 1)
  t.equal(db:run "SELECT count(*) FROM calls"[1][1], 300)
  t.equal(db:run "PRAGMA integrity_check"[1][1], "ok")
end

tests["after a kill no call runs again whose end was reported"] = function()
  local script = [[
local log, ends = LOG, ENDS
local g = fz.dag()
local last
for i = 1, 60 do
  local name = ("a%02d"):format(i)
  g:add(name, last and { last } or {}, function(x)
    fz.sleep(0.001)
    return { (x and x[1] or 0) + i }
  end)
  if i % 3 == 0 then last = name end
end
local ended, started = io.open(ends, "a"), io.open(log, "a")
ended:setvbuf "no"
started:setvbuf "no"
g:invoke({}, { resume = STORE, jobs = 3, progress = function(_, _, e)
  if e.kind == "done" and not e.cached then ended:write(e.output, "\n") end
  if e.kind == "start" then started:write(e.output, "\n") end
end })
print(g.output[last][1])]]
  local wanted
  for round = 1, 5 do
    local store, log, ends = new_path(), new_path(), new_path()
    local path = t.file((script:gsub("%u%u%u+", {
      LOG = ("%q"):format(log), ENDS = ("%q"):format(ends), STORE = ("%q"):format(store) })))
    local before = {}
    for try = 1, 30 do
      write(log, "")
      local delay = try < 6 and 0.02 + round * 0.007 + try * 0.003 or 30
      local out, _, status =
        t.shell(("timeout -s KILL %.3f $FZLUA %s"):format(delay, path))
      for name in read(log):gmatch "%S+" do
        assert(not before[name], name .. " ran again")
      end
      for name in read(ends):gmatch "%S+" do before[name] = true end
      if status == 0 then
        wanted = wanted or out
        t.equal(out, wanted)
        break
      end
      assert(try < 30)
    end
  end
end

-- Call f while the n-th statement of any database fails. Returns whether there were n statements.
local function with_failure(n, f)
  local methods = debug.getmetatable(core.database(":memory:", 0)).__index
  local run_sql, results, count = methods.run, methods.results, 0
  local function failing(real)
    return function(...)
      count = count + 1
      if count ~= n then return real(...) end
      error(fz.Error.new { kind = "error", message = "database or disk is full", code = 13 }, 0)
    end
  end
  methods.run, methods.results = failing(run_sql), failing(results)
  local ok, e = pcall(f)
  methods.run, methods.results = run_sql, results
  assert(ok, e)
  return count >= n
end

tests["any statement of the database may fail, and the run is right"] = function()
  local s, u = fz.stage "s", fz.stage "u"
  s:register("A", function(a) return { a, ("x"):rep(1e5) } end)
  s:register("B", {}, function() error "no" end)
  u:register("C", { "A" }, function(a) return #a[2] end)
  local failed, n, warnings = true, 0, 0
  local log = require "fzlua.log"
  local warn = log.warn
  log.warn = function(fmt, ...)
    warnings = warnings + 1
    t.match(fmt:format(...), "database or disk is full")
  end
  local _ <close> = setmetatable({}, { __close = function() log.warn = warn end })
  while failed do
    local store = new_path()
    n, warnings = n + 1, 0
    failed = with_failure(n, function()
      for _ = 1, 2 do
        local chain <close> = s >> u
        chain:invoke({ A = n }, { resume = store, on_error = "continue" })
        t.equal({ chain.output.C, chain.errors.B.kind }, { 100000, "error" })
      end
    end)
    assert(warnings <= 1, warnings)
  end
  assert(n > 40)
  t.equal(warnings, 0)
end

tests["a failure of an item leaves the file to other processes"] = function()
  local store = new_path()
  local other = t.file [[
    local db = require "fzlua.core".database(arg[1], 0, "write")
    print(pcall(db.run, db, "BEGIN IMMEDIATE"))
  ]]
  local s = fz.stage "s"
  s:register("B", "A", function(a)
    if a == 1 then error "no" end
    fz.sleep(0.2)
    return fz.exec { t.fzlua, other, store }.stdout
  end)
  local chain <close> = fz.chain(s)
  local options = { resume = store, on_error = "continue", jobs = 2 }
  for i, output, e in chain:stream({ { A = 1 }, { A = 2 } }, options) do
    if i == 1 then t.match(tostring(e), "no") else t.match(output.B, "true") end
  end
end

return tests
