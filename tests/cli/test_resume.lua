-- The options --resume, -n, --cache and --debug-failed of the command.
local t = ...
local core = require "fzlua.core"
local recorded = assert(loadfile "tests/support/recorded.lua")(t)
local new_path = recorded.new_path
local tests = {}

local SCRIPT <const> = [[
local one, two = fz.stage "one", fz.stage "two"
one:register("A", function(a) return a + 1 end)
one:register("B", function(b)
  if b < 0 then error("B is negative") end
  return b
end)
two:register("C", {"A", "B"}, function(a, b) return a + b end)
return one >> two]]

-- Run the command with this store. Returns its output, standard error and status.
local function run(store, arguments)
  return t.shell(("FZLUA_CACHE=%s $FZLUA %s"):format(store, arguments))
end

tests["-n says what would run, and why, and runs nothing"] = function()
  local store, script = new_path(), t.file(SCRIPT)
  local function dry(arguments, text)
    local out, err, status = run(store, ("-n --resume %s %s"):format(arguments, text or script))
    t.equal({ err, status }, { "", 0 })
    return (out:gsub(" +", " "))
  end
  local with = script .. " A=1 B=2"
  t.equal(dry("", with), "run one.A new\nrun one.B new\nrun two.C new\n"
    .. "3 to run, 0 perhaps, 0 recorded\n")
  assert(not io.open(store))
  t.equal(select(3, run(store, "--resume " .. with)), 0)
  t.equal(dry("", with), "recorded one.A\nrecorded one.B\nrecorded two.C\n"
    .. "0 to run, 0 perhaps, 3 recorded\n")
  t.equal(dry("", script .. " A=1 B=3"), "recorded one.A\nrun one.B changed: B\n"
    .. "perhaps two.C B is made anew\n1 to run, 1 perhaps, 1 recorded\n")
  t.equal(dry("--only A", with), "recorded one.A\n0 to run, 0 perhaps, 1 recorded\n")
  t.match(dry("--seed 3", with), "run one.A the seed has changed")
  local changed = t.file((SCRIPT:gsub("a %+ 1", "a + 2")))
  t.match(dry("", changed .. " A=1 B=2"), "run one.A the function at ",
    "recorded one.B")
  local version = t.file((SCRIPT:gsub("return a %+ 1 end", "%0, { version = '2' }")))
  t.match(dry("", version .. " A=1 B=2"), "run one.A its version has changed")
  run(store, ("--resume %s A=1 B=-1"):format(script))
  t.match(dry("", script .. " A=1 B=-1"), "run one.B it failed: ", "B is negative")
  t.match(dry("", script .. " A=1 B=-2"), "run one.B changed: B")
  t.match((run(store, "-n " .. with)), "run       one.A  it is not recorded")
  local failing = t.file "local g = fz.dag() g:add('F', 'x', function(x) error(x, 0) end) return g"
  run(store, ("--resume %s x=1"):format(failing))
  t.match(dry("", failing .. " x=1"), "run F it failed: 1\n")
  t.match(dry("", failing .. " x=2"), "run F it failed, and it or its inputs have changed since\n")
  local own = t.file [[
local s = fz.stage "s"
s:register("A", {}, function() print "runs" return 1 end)
fz.chain({ s }, { resume = "/proc/none" }):invoke()
print "goes on"]]
  t.equal((run(store, "-n " .. own)), "run       s.A  new\n1 to run, 0 perhaps, 0 recorded\n")
  local _, err, status = run(store, "-n " .. t.file "x = 1")
  t.equal({ err, status }, { "fzlua: --dry-run: the script returned no chain\n", 2 })
end

tests["names and errors with zeros are listed, and an error is whole"] = function()
  local store, script = new_path(), t.file [[
local s = fz.stage "st\0age"
s:register("a\0b", {}, function() return 1 end)
s:register("c\0", {}, function() error("no\0luck", 0) end)
return fz.chain { s }]]
  t.match((run(store, "-n " .. script)), "run       st\\x00age.a\\x00b  it is not recorded\n",
    "run       st\\x00age.c\\x00   it is not", "2 to run, 0 perhaps, 0 recorded\n")
  local _, err = run(store, "--resume " .. script)
  t.match(err, "output c\0: no\0luck\n")
  t.match((run(store, "-n --resume " .. script)), "it failed: no\\x00luck\n")
  t.match((run(store, "--resume --cache ls")), "st\\x00age.c\\x00", "failed: no\\x00luck")
end

tests["-n lists names of any length"] = function()
  local script = t.file [[
local g = fz.dag()
g:add(("x"):rep(120), {}, function() return 1 end)
g:add("y", {}, function() return 1 end)
return g]]
  local why = "  it is not recorded\n"
  t.equal({ run(new_path(), "-n " .. script) }, { ("run       %s%srun       y%s%s"):format(
    ("x"):rep(120), why, (" "):rep(119), why) .. "2 to run, 0 perhaps, 0 recorded\n", "", 0 })
end

tests["--cache show lists the items of a map"] = function()
  local store, script = new_path(), t.file "fz.map(function(x) return x end, { 1, 2 })"
  run(store, "--resume " .. script)
  local name = ("fz.map %s:1"):format(script)
  local out, err, status = run(store, ("--cache show '%s'"):format(name))
  t.equal({ err, status, select(2, out:gsub("\n", "")) }, { "", 0, 3 })
  t.equal(select(2, out:gsub("\n%x+  %d", "")), 2)
end

tests["--check opens no file for a map"] = function()
  local store, script = new_path(), t.file "fz.map(function(x) return x end, {1}, {resume = true})"
  local _, err, status = run(store, "--check " .. script)
  t.equal({ err, status, io.open(store) == nil }, { "", 0, true })
end

tests["-n runs no maps, streams, processes and programs either, and no code for lines"] = function()
  local store = new_path()
  for _, case in ipairs {
    { "fz.map(f, {1})", "a map" }, { "pool:map(f, {1})", "a map" },
    { "pool:starmap_async(f, {{1}})", "a map" }, { "pool:apply(f)", "a call" },
    { "pool:apply_async(f)", "a call" }, { "for _ in pool:imap(f, {1}) do end", "an imap" },
    { "fz.fold(f, {1}, 0, f)", "an? [im]" },
    { "for _ in (s >> fz.stage 'u'):stream({1}) do end", "a stream" },
    { "fz.process(f, 1):start()", "a process" }, { "fz.exec({'echo', 'ran'})", "a program" },
    { "fz.run_scripts({'/dev/null'})", "a program" },
  } do
    local script = t.file(([[
local pool, f = fz.pool(2), function(x) io.stderr:write "ran\n" return x end
local s = fz.stage "s"
s:register("A", "x", f)
%s
io.stderr:write "went on\n"]]):format(case[1]))
    local out, err, status = run(store, "-n --resume " .. script)
    t.equal({ case[1], out, status }, { case[1], "", 2 })
    local pattern = "^fzlua: %-%-dry%-run: " .. case[2] .. "[^\n]* at [^\n]+:4 would run; [^\n]+\n$"
    assert(err:find(pattern), err)
  end
  local managed = t.file [[
local m = fz.manager()
local d = m:dict { a = 1 }
local s = fz.stage "s"
s:register("A", {}, function() return d.a end)
return fz.chain { s }]]
  t.equal({ run(store, "-n --resume " .. managed) },
    { "run       s.A  new\n1 to run, 0 perhaps, 0 recorded\n", "", 0 })
  for _, option in ipairs { "-n", "--resume" } do
    local _, err, status = t.shell(("echo a | $FZLUA %s --each 'print(line)'"):format(option))
    t.equal(status, 2)
    t.match(err, option == "-n" and "--dry-run needs a chain" or "--resume: ")
  end
end

tests["-n counts the elements of a map that are recorded"] = function()
  local store, script = new_path(), t.file [[
local s = fz.stage "s"
s:map("M", "list", function(x) return x end)
return fz.chain { s }]]
  run(store, ("--resume %s 'list=[1,2,3]'"):format(script))
  local function dry(list) return (run(store, ("-n --resume %s list=%s"):format(script, list))) end
  t.match(dry "[1,2,3]", "recorded  s.M")
  t.match(dry "[1,4,2,5]", "run       s.M  changed: list; 2 of 4 elements are recorded")
  t.match(dry "[]", "run       s.M  changed: list\n")
end

tests["--cache ls, show, gc and clear"] = function()
  local store, script = new_path(), t.file(SCRIPT)
  local _, err, status = run(store, "--cache ls")
  t.equal(status, 1)
  t.match(err, "there is no cache " .. store)
  run(store, ("--resume %s A=1 B=2"):format(script))
  run(store, ("--resume %s A=2 B=2"):format(script))
  run(store, ("--resume %s A=2 B=-2"):format(script))
  local out = run(store, "--cache ls")
  assert(out:find "calls +size +last recorded +function\n")
  assert(out:find "2 +%d+B +%d+%-%d+%-%d+ [%d:]+ +one.A\n", out)
  assert(out:find "1 +%d+B .- one%.B +failed: [^\n]*B is negative\n", out)
  assert(out:find "2 +%d+B .- two%.C\n", out)
  for _, name in ipairs { "C", "two.C" } do
    out = run(store, "--cache show " .. name)
    t.equal(select(2, out:gsub("\n%x+  %d", "")), 2)
    t.equal(select(2, out:gsub("\n  [AB]  %x+", "")), 4)
  end
  t.match((run(store, "--cache show B")), "one.B failed at ", "B is negative")
  _, err, status = run(store, "--cache show nothing")
  t.equal({ err, status }, { ("fzlua: no result of nothing is recorded in %s\n"):format(store), 2 })
  t.equal((run(store, "--cache gc")), "0 calls removed\n")
  t.equal((t.shell(("FZLUA_CACHE_SIZE=600 $FZLUA --resume=%s --cache gc"):format(store))),
    "3 calls removed\n")
  t.equal((run(store, "--cache clear")), "2 calls removed\n")
  t.equal(select(2, run(store, "--cache ls"):gsub("\n", "")), 1)
  _, err, status = run(store, "--cache show C --resume=x")
  t.equal({ err, status }, { "fzlua: --cache show does not take the argument --resume=x: options "
    .. "come before it\n", 2 })
  _, err, status = run(store, "--cache gc C")
  t.equal({ err, status }, { "fzlua: --cache gc does not take the argument C\n", 2 })
  _, err, status = run(store, "--cache remove")
  t.equal(status, 2)
  t.match(err, "--cache must be ls, show, gc or clear, not remove")
end

tests["--debug-failed runs the failed function in this process"] = function()
  local store = new_path()
  local script = t.file [[
local core = require "fzlua.core"
local s, u = fz.stage "s", fz.stage "u"
s:register("A", {}, function() io.stderr:write "A runs\n" return 1 end)
s:register("Z", {}, function() io.stderr:write "Z runs\n" return 1 end)
u:register("B", {"A"}, function(a)
  io.stderr:write("B runs in ", PID == core.pid() and "this" or "another", " process\n")
  error "no"
end)
PID = core.pid()
return s >> u]]
  local _, err, status = run(store, "--debug-failed B " .. script)
  t.equal(status, 1)
  t.match(err, "there is no cache " .. store)
  _, err, status = run(store, "--resume " .. script)
  t.equal(status, 1)
  t.match(err, "B runs in another process")
  for _, how in ipairs { "--debug-failed u.B ", "-i --debug-failed B " } do
    _, err = run(store, how .. script .. " </dev/null")
    t.match(err, "B runs in this process")
    assert(not err:find "[AZ] runs", err)
  end
  _, err, status = run(store, "--debug-failed B " .. script)
  t.equal(status, 1)
  t.match(err, "B runs in this process", "no")
  assert(not err:find "A runs" and not err:find "Z runs")
  _, err, status = run(store, "--debug-failed A " .. script)
  t.equal({ err, status },
    { ("fzlua: --debug-failed: no failure of A is recorded in %s\n"):format(store), 2 })
end

-- Scripts whose third item fails, and the name of the function.
local ITEMS <const> = {
  { "B", [[
local s, u = fz.stage "s", fz.stage "u"
s:register("A", "x", function(x) ran("A", x) return x end)
u:register("B", "A", function(x) return ran("B", x) end)
for i, out, e in (s >> u):stream({ 1, 2, 3, 4 }, { on_error = "continue" }) do
  print(i, out and out.B, e and e.index)
end]] },
  { "fz.map SCRIPT:5", [[
local r = fz.map(function(x) return ran("B", x) end, { 1, 2, 3, 4 }, { on_error = "continue" })
for i = 1, 4 do print(i, r[i], r.errors[i] and r.errors[i].index) end]] },
  { "pool:imap SCRIPT:6", [[
local pool <close> = fz.pool(2)
local function f(x) return ran("B", x) end
for i, v, e in pool:imap(f, { 1, 2, 3, 4 }, { on_error = "continue" }) do
  print(i, v, e and e.index)
end]] },
}

tests["--debug-failed runs the failed item of a script that returns no chain"] = function()
  for _, case in ipairs(ITEMS) do
    local store = new_path()
    local script = t.file([[
local function ran(letter, x)
  io.stderr:write(letter, x, fz.current_process().worker and " there\n" or " here\n")
  return letter == "A" and x or assert(x ~= 3 and x * 2, "it is three")
end
]] .. case[2])
    local name, shown = case[1]:gsub("SCRIPT", script), ""
    for i, line in ipairs { "2\tnil", "4\tnil", "nil\t3", "8\tnil" } do
      shown = ("%s%d\t%s\n"):format(shown, i, line)
    end
    local out, err, status = run(store, "--resume " .. script)
    t.equal({ out, status }, { shown, 0 })
    t.match(err, "B3 there", "B4 there")
    t.match((run(store, "--cache ls")), "failed: ", "it is three")
    out, err, status = run(store, ("--debug-failed '%s' %s"):format(name, script))
    t.equal({ out, err, status }, { shown, "B3 here\n", 0 })
  end
end

tests["the default file is in .fzlua, which version control ignores"] = function()
  local directory, script = os.tmpname(), t.file(SCRIPT)
  os.remove(directory)
  assert(core.make_directory(directory))
  local out, err, status = t.shell(("cd %s && $FZLUA --resume %s A=1 B=2 && ls -A .fzlua && "
    .. "cat .fzlua/.gitignore && $FZLUA --cache ls | wc -l"):format(directory, script))
  t.equal({ err, status }, { "", 0 })
  t.equal(out, "A = 2\nB = 2\nC = 4\n.gitignore\ncache.db\n*\n4\n")
  t.shell(("rm -r %s"):format(directory))
end

tests["a directory that cannot be written and a full file system give one warning"] = function()
  local script = t.file(SCRIPT)
  local cases = { "/proc/self/cache.db", "/dev/full/cache.db" }
  for _, path in ipairs(cases) do
    local out, err, status = run(path, ("--resume %s A=1 B=2"):format(script))
    t.equal({ out, status }, { "A = 2\nB = 2\nC = 4\n", 0 })
    t.match(err, ("the cache %s is not used: unable to open database file: "):format(path))
    t.equal(select(2, err:gsub("\n", "")), 1)
  end
end

tests["-n says that a damaged file is not used, and nothing about a missing one"] = function()
  local script, store = t.file(SCRIPT), new_path()
  local list, err, status = run(store, ("-n --resume %s A=1 B=2"):format(script))
  t.equal({ err, status }, { "", 0 })
  local damaged = t.file(("no database"):rep(1000))
  local again, warning, code = run(damaged, ("-n --resume %s A=1 B=2"):format(script))
  t.equal({ again, code }, { list, 0 })
  t.match(warning, ("the cache %s is not used: file is not a database\n"):format(damaged))
  t.equal(select(2, warning:gsub("\n", "")), 1)
end

tests["a directory that cannot be made has its reason in the warning"] = function()
  local script = t.file(SCRIPT)
  local out, err, status = t.shell(([[cd /sys; "$FZLUA" --resume %s A=1 B=2]]):format(script))
  t.equal({ out, status }, { "A = 2\nB = 2\nC = 4\n", 0 })
  local _, why = t.shell "LC_ALL=C mkdir /sys/.fzlua"
  t.match(err, "the cache .fzlua/cache.db is not used: unable to open database file:"
    .. why:match "[^:]*$")
end

tests["a limit of the size of files does not end the run"] = function()
  local store, script = new_path(), t.file [[
local g = fz.dag()
for i = 1, 20 do
  g:add("v" .. i, {}, function()
    local list = {}
    for k = 1, 3000 do list[k] = i * k end
    return list
  end)
end
g:invoke()
print(fz.digest(g.output))]]
  local wanted = t.shell("$FZLUA " .. script)
  local out, err, status = t.shell(("ulimit -f 100; FZLUA_CACHE=%s $FZLUA --resume %s")
    :format(store, script))
  t.equal({ out == wanted, status }, { true, 0 })
  t.match(err, "the cache ", " is not used any more: ")
  t.equal(select(2, err:gsub("\n", "")), 1)
  out, err = run(store, "--resume " .. script)
  t.equal({ out == wanted, err }, { true, "" })
end

return tests
