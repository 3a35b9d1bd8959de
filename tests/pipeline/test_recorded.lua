-- Results of functions that are recorded in a file, and used by later invokes and runs.
local t = ...
local core = require "fzlua.core"
local tests = {}

-- A name for a store, whose files are removed after the test.
local function new_path()
  local path = os.tmpname()
  os.remove(path)
  for _, suffix in ipairs { "", "-wal", "-shm" } do t.files[#t.files + 1] = path .. suffix end
  return path
end

local function read(path)
  local file <close> = io.open(path)
  return file and file:read "a" or ""
end

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

-- Run a script, whose functions append a letter to the file LOG. Returns the letters sorted, the
-- output and what standard error has.
local function run(script, store, ...)
  local log = new_path()
  local path = t.file([[
local function ran(letter)
  local file <close> = io.open(os.getenv "LOG", "a")
  file:write(letter)
end
]] .. script)
  local words = {}
  for i, word in ipairs { ... } do words[i] = ("'%s'"):format(word) end
  local out, err, status = t.shell(("LOG=%s $FZLUA --resume=%s %s %s"):format(log, store, path,
    table.concat(words, " ")))
  local letters = {}
  for letter in read(log):gmatch "." do letters[#letters + 1] = letter end
  table.sort(letters)
  return table.concat(letters), out, err, status
end

local TWO_STAGES <const> = [[
LIMIT = 10
local factor = 2
local function double(x) return x * factor end
function add(a, b) return a + b + LIMIT end
local one, two = fz.stage "one", fz.stage "two"
one:register("A", function(a) ran "A" return double(a) end)
one:register("B", function(b) ran "B" return b + 1 end)
two:register("C", {"A", "B"}, function(a, b) ran "C" return { add(a, b), list = { a, b } } end)
return one >> two]]

tests["a second run uses the results of the first"] = function()
  local store = new_path()
  local ran, out, err = run(TWO_STAGES, store, "A=1", "B=2")
  t.equal({ ran, err }, { "ABC", "" })
  for _, jobs in ipairs { "-j4", "-j1", "-j0" } do
    local again, same = run(TWO_STAGES, store, "A=1", "B=2")
    t.equal({ jobs, again, same }, { jobs, "", out })
  end
  t.equal((run(TWO_STAGES, store, "A=1", "B=3")), "BC")
  t.equal((run(TWO_STAGES, store, "A=1", "B=2")), "")
  t.equal((run(TWO_STAGES, store, "A=1", "B=2", "C=1")), "") -- C is made, not read
end

-- For each change of the script: what runs then.
local CHANGES <const> = {
  { "return double", "-- a comment\n\n return --[[ another ]] double", "" },
  { "function(b) ran", "function(other) local b = other ran", "B" }, -- other code, same value
  { "x * factor", "factor * x", "A" },
  { "factor = 2", "factor = 3", "AC" },
  { "local factor", "local function new() end\nlocal other\nlocal factor", "" },
  { "x * factor", "x * factor + 1", "AC" },
  { "LIMIT = 10", "LIMIT = 11", "C" },
  { "b + LIMIT", "b + LIMIT + 1", "C" },
  { "b + 1 end", "b + 2 end", "BC" },
}

tests["a change runs what depends on it, and nothing else"] = function()
  for _, change in ipairs(CHANGES) do
    local store = new_path()
    t.equal((run(TWO_STAGES, store, "A=1", "B=2")), "ABC")
    local from, to = TWO_STAGES:find(change[1], 1, true)
    local changed = TWO_STAGES:sub(1, from - 1) .. change[2] .. TWO_STAGES:sub(to + 1)
    t.equal({ change[2], (run(changed, store, "A=1", "B=2")) }, { change[2], change[3] })
    t.equal((run(changed, store, "A=1", "B=2")), "")
  end
end

tests["a changed module, and one that it requires, run what requires it"] = function()
  local directory = os.tmpname()
  os.remove(directory)
  assert(core.make_directory(directory))
  local inner, outer = directory .. "/rec_inner.lua", directory .. "/rec_outer.lua"
  local script = ([[
package.path = "%s/?.lua;" .. package.path
local outer = require "rec_outer"
local s = fz.stage "s"
s:register("A", function(a) ran "A" return outer.f(a) end)
s:register("B", function(b) ran "B" return b end)
s:register("C", function(c) ran "C" return require "rec_inner".k + c end)
return fz.chain { s }]]):format(directory)
  write(inner, "return { k = 1 }")
  write(outer, "local r = require 'rec_inner' return { f = function(x) return x + r.k end }")
  local store = new_path()
  t.equal((run(script, store, "A=1", "B=1", "C=1")), "ABC")
  t.equal((run(script, store, "A=1", "B=1", "C=1")), "")
  write(inner, "-- a comment\nreturn { k = 1 }")
  t.equal((run(script, store, "A=1", "B=1", "C=1")), "")
  write(inner, "return { k = 2 }")
  local ran, out = run(script, store, "A=1", "B=1", "C=1")
  t.equal({ ran, out }, { "AC", "A = 3\nB = 1\nC = 3\n" })
  write(outer, "local r = require 'rec_inner' return { f = function(x) return x - r.k end }")
  t.equal((run(script, store, "A=1", "B=1", "C=1")), "A")
  assert(os.execute(("rm -r '%s'"):format(directory)))
end

tests["a file counts by its contents, as an input and in a result"] = function()
  local store, a, b, made = new_path(), t.file "one", t.file "one", new_path()
  local script = ([[
local s = fz.stage "s"
s:register("R", {"F"}, function(f) ran "R" return f:read() end)
s:register("W", {"F"}, function(f)
  ran "W"
  local file <close> = io.open(%q, "w")
  file:write(f:read(), "!")
  return fz.file(%q)
end)
local u = fz.stage "u"
u:register("S", {"W"}, function(w) ran "S" return w:read() end)
local c = s >> u
c.input = { F = fz.file(NAME) }
return c]]):format(made, made)
  local function with(name) return run((script:gsub("NAME", ("%q"):format(name))), store) end
  local ran, out = with(a)
  t.equal(ran, "RSW")
  t.match(out, 'R = one', 'S = one!')
  t.equal((with(a)), "")
  t.equal((with(b)), "") -- the same contents
  write(a, "two")
  t.equal((with(a)), "RSW")
  write(made, "changed by another program")
  t.equal((with(a)), "W") -- made again with the same contents
  os.remove(made)
  t.equal((with(a)), "W")
  t.equal((with(a)), "")
  os.remove(a)
  local _, _, err = with(a)
  t.match(err, "is not recorded: input F: cannot read " .. a)
  write(a, "")
end

tests["version, seed, cache = false and cache = true"] = function()
  local store = new_path()
  local script = [[
local s = fz.stage "s"
s:register("A", {}, function() ran "A" return math.random(1e9) end, { version = "1" })
s:register("B", {}, function() ran "B" return 1 end, { cache = false })
return fz.chain { s }]]
  local ran, out = run(script, store)
  t.equal(ran, "AB")
  local again, same = run(script, store)
  t.equal({ again, same }, { "B", out })
  t.equal((run(script:gsub('"1"', '"2"'), store)), "AB")
  local seeded = script:gsub("fz.chain { s }", "fz.chain({ s }, { seed = 7 })")
  ran, out = run(seeded, store)
  t.equal(ran, "AB")
  again, same = run(seeded, store)
  t.equal({ again, same }, { "B", out })
  ran = run(seeded:gsub("seed = 7", "seed = 8"), store)
  t.equal(ran, "AB")
end

tests["cache = true records without resume, in the file of FZLUA_CACHE"] = function()
  local store, log = new_path(), new_path()
  local script = t.file(([[
local function ran(x) local f <close> = io.open(%q, "a") f:write(x) end
local s = fz.stage { name = "s" }
s:register("A", {}, function() ran "A" return 1 end, { cache = true })
s:register("B", {}, function() ran "B" return 1 end)
local g = fz.dag { cache = true }
g:add("C", {}, function() ran "C" return 1 end)
fz.chain { s }:invoke()
fz.chain { s }:invoke({}, { resume = %q })
g:invoke()
]]):format(log, new_path()))
  for _ = 1, 2 do
    local _, err, status = t.shell(("FZLUA_CACHE=%s $FZLUA %s"):format(store, script))
    t.equal({ err, status }, { "", 0 })
  end
  local letters = read(log)
  t.equal({ select(2, letters:gsub("A", "")), select(2, letters:gsub("B", "")),
    select(2, letters:gsub("C", "")) }, { 2, 3, 1 })
end

tests["an upvalue that changes between invokes counts, and so does a new function"] = function()
  local store, k = new_path(), 1
  local s = fz.stage "s"
  s:register("A", {}, function() return k end)
  local chain <close> = fz.chain({ s }, { resume = store })
  t.equal(chain({}).A, 1)
  k = 2
  t.equal(chain({}).A, 2)
  k = 1
  t.equal(chain({}).A, 1)
  s:register("A", {}, function() return k + 10 end)
  t.equal(chain({}).A, 11)
end

tests["events and counts include recorded results"] = function()
  local store = new_path()
  local s, u = fz.stage "s", fz.stage "u"
  s:register("A", function(a) return a end)
  u:register("B", { "A" }, function(a) return a + 1 end)
  local chain <close> = s >> u
  for _, kinds in ipairs { { "start", "done", "start", "done" }, { "done", "done" } } do
    local seen, last = {}, 0
    chain:invoke({ A = 1 }, { resume = store, progress = function(done, total, e)
      seen[#seen + 1], last = e.kind, done
      t.equal(total, 2)
    end })
    t.equal(seen, kinds)
    t.equal({ last, chain.output.B }, { 2, 2 })
  end
end

tests["files of traces have the recorded results"] = function()
  local store = new_path()
  local s = fz.stage "s"
  s:register("A", function(a) return a end)
  s:map("M", "list", function(x) return x end)
  local chain <close> = fz.chain { s }
  chain:invoke({ A = 1, list = { 1, 2 } }, { resume = store })
  local function lines(format)
    local name = os.tmpname()
    t.files[#t.files + 1] = name
    t.files[#t.files + 1] = name .. format
    chain:invoke({ A = 1, list = { 2, 3 } }, { resume = store, trace = name .. format })
    local list = {}
    for line in io.lines(name .. format) do
      if line:find "cached" or format == ".tsv" then list[#list + 1] = line end
    end
    local db <close> = core.database(store, 1) -- 3 is new again
    db:run "DELETE FROM calls WHERE tick = (SELECT max(tick) FROM calls)"
    return list
  end
  local list = lines ".jsonl"
  t.equal(#list, 2)
  t.match(list[1], '{"event":"cached","stage":"s","name":"A","n":1,', '"started":')
  t.match(list[2], '"event":"cached","stage":"s","name":"M","index":1,"n":1,')
  list = lines ".json"
  t.equal(#list, 2)
  t.match(list[1], '{"ph":"i","s":"p","cat":"cached","stage":"s","name":"A","ts":')
  list = lines ".tsv"
  t.equal(#list, 4)
  t.match(list[2], "\t0.000\t0\t", "\t0\t0\ts.A")
end

tests["only successes are recorded, and the failed function runs again"] = function()
  local store, flag = new_path(), new_path()
  local script = ([[
local g = fz.dag()
g:add("A", {}, function() ran "A" return 1 end)
g:add("B", {"A"}, function()
  ran "B"
  if io.open(%q) then return 2 end
  error "not yet"
end)
g:add("C", {"A", "B"}, function(a, b) ran "C" return a + b end)
return g]]):format(flag)
  local ran, _, err, status = run(script, store)
  t.equal({ ran, status }, { "AB", 1 })
  t.match(err, "not yet")
  write(flag, "")
  local again, out = run(script, store)
  t.equal({ again, out }, { "BC", "A = 1\nB = 2\nC = 3\n" })
  t.equal((run(script, store)), "")
end

tests["results with functions or shared objects are not recorded, and say why"] = function()
  local store = new_path()
  local script = [[
local lock = fz.lock()
local s = fz.stage "s"
s:register("F", {}, function() ran "F" return { function() return 1 end } end)
s:register("Q", {}, function() ran "Q" return { q = fz.queue() } end)
s:register("L", {}, function() ran "L" return lock:acquire() end)
s:register("N", {}, function() ran "N" return nil end)
s:register({"X", "Y"}, {}, function() ran "X" return 1, print end)
local u = fz.stage "u"
u:register("D", {"Q"}, function() ran "D" return 1 end)
return s >> u]]
  for i = 1, 2 do
    local ran, _, err, status = run(script, store)
    t.equal({ ran, status }, { i == 1 and "DFLNQX" or "DFLQX", 0 })
    t.match(err, "s.F is not recorded: a function is among its values",
      "s.Q is not recorded: .q: a",
      "s.L is not recorded: <upvalue lock>: a fzlua.Lock", "s.X,Y is not recorded",
      "u.D is not recorded: input Q: .q: a")
  end
end

tests["a map is recorded as a whole, and by its elements"] = function()
  local store = new_path()
  local script = [[
local s = fz.stage "s"
s:map("M", "list", function(x) ran(tostring(x)) return x * 2 end)
return fz.chain { s }]]
  local ran, out = run(script, store, "list=[1,2,3]")
  t.equal(ran, "123")
  local again, same = run(script, store, "list=[1,2,3]")
  t.equal({ again, same }, { "", out })
  t.equal((run(script, store, "list=[1,2]")), "")
  again, same = run(script, store, "list=[4,2,1,5,1]")
  t.equal({ again, same }, { "45", "M = {8, 4, 2, 10, 2, n = 5}\nlist = {4, 2, 1, 5, 1}\n" })
  t.equal((run(script:gsub("x %* 2", "x * 3"), store, "list=[1]")), "1")
end

tests["elements of a map that succeeded are not called again"] = function()
  local store, flag = new_path(), new_path()
  local script = ([[
local s = fz.stage "s"
s:map("M", {"list", "add"}, function(x, add)
  ran(tostring(x))
  if x == 3 and not io.open(%q) then fz.sleep(0.3) error "not yet" end
  return x + add
end)
return fz.chain { s }]]):format(flag)
  local ran, _, err, status = run(script, store, "list=[1,2,3]", "add=1")
  t.equal({ ran, status }, { "123", 1 })
  t.match(err, "not yet")
  write(flag, "")
  local again, out = run(script, store, "list=[1,2,3]", "add=1")
  t.equal({ again, out }, { "3", "M = {2, 3, 4, n = 3}\nadd = 1\nlist = {1, 2, 3}\n" })
  t.equal((run(script, store, "list=[1,2,3]", "add=2")), "123")
end

local STREAM <const> = [[
local a, b = fz.stage "a", fz.stage "b"
a:register("X", {"k"}, function(k) ran "X" return k * 2 end)
b:register("Y", {"X"}, function(x) ran "Y" return { x, x + 1 } end)
b:map("M", "list", function(e) ran "M" return e .. "!" end)
local c = a >> b
local items = {}
for i = 1, N do items[i] = { k = i, list = { "p" .. i, "q" .. i } } end
for i, out in c:stream(items, OPTIONS) do
  print(i, out.X, out.Y[1], out.Y[2], table.concat(out.M, " "), out.M.n, out.k)
end]]

tests["items of streams are recorded"] = function()
  local function of(n, options)
    return (STREAM:gsub("N do", n .. " do"):gsub("OPTIONS", options or "{}"))
  end
  local store = new_path()
  local ran, out, err = run(of(3), store)
  t.equal({ ran, err }, { "MMMMMMXXXYYY", "" })
  local again, same = run(of(3), store)
  t.equal({ again, same }, { "", out })
  again, same = run(of(4, "{ jobs = 0 }"), store)
  t.equal({ again, same:sub(1, #out) }, { "MMXY", out })
  again, same = run(of(3, "{ inflight = 1 }"), store)
  t.equal({ again, same }, { "", out })
  t.equal((run(of(2, "{ cache = false }"), store)), "MMMMXXYY")
  t.equal((run(of(1, "{ seed = 1 }"), store)), "MMXY")
  t.equal((run(of(1, "{ seed = 1, ordered = false }"), store)), "")
end

tests["a stream that is left, or fails, has its ended items recorded"] = function()
  local store, flag = new_path(), new_path()
  local script = ([[
local s = fz.stage "s"
s:register("X", {"k"}, function(k)
  ran(tostring(k))
  if k == 3 and not io.open(%q) then fz.sleep(0.3) error "not yet" end
  return k
end)
local c = fz.chain { s }
for i, out in c:stream({1, 2, 3, 4}, { on_error = "continue" }) do
  print(i, out and out.X)
  if i == 3 and not out then break end
end]]):format(flag)
  local ran, _, err, status = run(script, store)
  t.equal({ err, status }, { "", 0 })
  assert(ran == "123" or ran == "1234", ran)
  write(flag, "")
  local again, out = run(script, store)
  t.equal({ again, out }, { ran == "123" and "34" or "3", "1\t1\n2\t2\n3\t3\n4\t4\n" })
  t.equal((run(script, store)), "")
end

tests["events of recorded results have the mark cached"] = function()
  local store = new_path()
  local s, u = fz.stage "s", fz.stage "u"
  s:register("A", function(a) return a end)
  u:map("B", "list", function(x) return x end)
  local chain <close> = s >> u
  local function count(events, f)
    local n, last, of = 0, 0, 0
    f(function(done, total, e)
      assert(e.kind == "done" or e.kind == "start")
      if e.cached then
        t.equal({ e.kind, e.pid, e.seconds }, { "done" })
        n = n + 1
      end
      last, of = done, total
    end)
    t.equal({ n, last }, { events, of })
  end
  local function invoke(list)
    return function(progress)
      chain:invoke({ A = 1, list = list }, { resume = store, progress = progress, trace = true })
      local n = 0
      for _, e in ipairs(chain.trace) do n = n + (e.event == "cached" and e.n or 0) end
      return n
    end
  end
  local function stream(progress)
    local items = { { A = 1, list = { 1, 2 } }, { A = 2, list = { 1, 2 } } }
    for _ in chain:stream(items, { resume = store, progress = progress }) do end -- luacheck: ignore
  end
  count(0, invoke { 1, 2 })
  count(2, invoke { 1, 2 })
  count(3, invoke { 1, 2, 3 })
  t.equal(invoke { 1, 2, 3, 4 } (false), 4)
  count(3, stream)
  count(4, stream)
end

tests["optional inputs, several outputs, and registered classes"] = function()
  local store = new_path()
  local script = [[
local P = { __index = { norm = function(p) return p.x * 2 end } }
fz.register_class("recorded.P", P)
local s, u = fz.stage "s", fz.stage "u"
s:register("bad", {}, function() error "bad" end)
s:register({"one", "two"}, {}, function()
  ran "S"
  return setmetatable({ x = 4 }, P), ("x"):rep(2e5)
end)
u:register("sum", {"bad", "one", "two"}, function(bad, one, two)
  ran "U"
  return { tostring(bad), one:norm(), #two }
end, { optional = true })
return s >> u]]
  local ran, out = run(script, store)
  t.equal(ran, "SU")
  t.match(out, '"nil"', "8", "200000")
  local again, same = run(script, store)
  t.equal({ again, same == out }, { "", true })
end

tests["workers of a chain inside a function use no store"] = function()
  local store = new_path()
  local script = ([[
local s = fz.stage "s"
s:register("A", {}, function()
  ran "A"
  local i = fz.stage "i"
  i:register("B", {}, function() ran "B" return 1 end, { cache = true })
  return fz.chain { i }({}, { resume = %q }).B
end)
return fz.chain { s }]]):format(store)
  local ran, out, err, status = run(script, store)
  t.equal({ ran, out, err, status }, { "AB", "A = 1\n", "", 0 })
  t.equal((run(script, store)), "")
end

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
  cases[3] = { newer, "written by a newer fzlua %(version 99" }
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

-- Change the rows of a store.
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
    t.match(err, "the result of s.A cannot be read, so that it is computed anew")
    t.equal(select(2, err:gsub("\n", "")), 1)
    local again, third, silent = run(script, store)
    t.equal({ again, third, silent }, { "", out, "" })
  end
end

tests["results without their call are replaced"] = function()
  local script = [[
local s = fz.stage "s"
s:register("A", {}, function() ran "A" return 1 end)
return fz.chain { s }]]
  local store = new_path()
  run(script, store)
  change(store, "DELETE FROM calls")
  local ran, _, err = run(script, store)
  t.equal({ ran, err }, { "A", "" })
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

-- Call f with the n-th statement of any database failing. Returns whether it came to that.
local function with_failure(n, f)
  local methods = debug.getmetatable(core.database(":memory:", 0)).__index
  local real, count = methods.run, 0
  methods.run = function(...)
    count = count + 1
    if count ~= n then return real(...) end
    error(fz.Error.new { kind = "error", message = "database or disk is full", code = 13 }, 0)
  end
  local ok, e = pcall(f)
  methods.run = real
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

return tests
