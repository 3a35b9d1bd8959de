-- The option --trace of the command: the calls of a whole script in one file.
local t = ...
local json = require "fzlua.json"
local tests = {}

local function name_of(format)
  local name = t.file "" .. "." .. format
  t.files[#t.files + 1] = name
  return name
end

-- The objects of a file, whose lines must be whole.
local function objects(name)
  local list = {}
  for line in io.lines(name, "L") do
    t.equal(line:sub(-1), "\n")
    list[#list + 1] = json.decode(line)
  end
  return list
end

-- The items of the calls with this label.
local function items(list, label)
  local n = 0
  for _, e in ipairs(list) do
    if e.name and e.name:find(label, 1, true) == 1 then n = n + e.n end
  end
  return n
end

tests["chains, maps, imaps and calls of pools are in the file"] = function()
  local name, script = name_of "jsonl", t.file [[
local f = function(x) return x end
fz.map(f, {1, 2, 3})
local pool <close> = fz.pool(2)
pool:map(f, {1, 2, 3, 4})
pool:apply(f, 1)
pool:apply_async(f, {1}):get()
for _ in pool:imap(f, {1, 2, 3, 4, 5}) do end
print(pool:fold(function(a, x) return a + x end, {1, 2}, 0, function(a, b) return a + b end))
local g = fz.dag()
g:add("a", {}, function() return 1 end)
return g]]
  local out, err, status = t.command("--trace", name, script)
  t.equal({ out, err, status }, { "3\na = 1\n", "", 0 })
  local list = objects(name)
  t.equal({ list[1].event, list[#list].event }, { "begin", "end" })
  local place = " " .. script .. ":1"
  t.equal({
    items(list, "fz.map" .. place), items(list, "pool:map" .. place),
    items(list, "pool:apply" .. place), items(list, "pool:apply_async" .. place),
    items(list, "pool:imap" .. place), items(list, "a"),
  }, { 3, 4, 1, 1, 5, 1 })
  assert(items(list, "pool:fold") >= 1)
end

tests["stages, and names of several outputs, are in the file"] = function()
  local name, script = name_of "jsonl", t.file [[
local load, clean = fz.stage "load", fz.stage "clean"
load:register({ "a", "b" }, {}, function() return 1, 2 end)
clean:register("c", "b", function(b) return b end)
local chain = load >> clean
chain:invoke()
local dag = fz.dag()
dag:add({ "d", "e" }, {}, function() return 1, 2 end)
dag:invoke()]]
  local out, err, status = t.command("--trace", name, script)
  t.equal({ out, err, status }, { "", "", 0 })
  local list, names = objects(name), {}
  for i = 2, #list - 1 do names[i - 1] = (list[i].stage or "") .. ":" .. list[i].name end
  t.equal(names, { "load:a,b", "clean:c", ":d,e" })
end

tests["a failed script and os.exit leave whole files"] = function()
  for _, ending in ipairs { "error 'no'", "os.exit(1)", "os.exit(1, true)" } do
    local name = name_of "jsonl"
    local script = t.file("fz.map(function(x) return x end, {1, 2, 3}) " .. ending)
    local _, _, status = t.command("--trace", name, script)
    local list = objects(name)
    t.equal({ status, items(list, "fz.map"), list[#list].event }, { 1, 3, "end" })
  end
end

tests["a function that is recorded may be os.exit, or may have it"] = function()
  local script = t.file [[
local exit = os.exit
for _, start in ipairs { "fork", "spawn" } do
  local pool <close> = fz.pool { workers = 1, start = start }
  print(select(2, pcall(pool.apply, pool, os.exit, 3)).exitcode)
  print(select(2, pcall(pool.apply, pool, function() exit(4) end)).exitcode)
end]]
  for _, option in ipairs { "--trace", "--report" } do
    local name = name_of(option == "--trace" and "jsonl" or "html")
    local out, err, status = t.command(option, name, script)
    t.equal({ out, err, status }, { "3\n4\n3\n4\n", "", 0 })
  end
end

tests["-j0 and workers of workers: the calls of this process are in the file"] = function()
  local script = t.file [[
fz.map(function() return fz.map(function(x) return x end, {1, 2})[1] end, {1, 2})]]
  for jobs = 0, 1 do
    local name = name_of "jsonl"
    local _, err, status = t.command("-j" .. jobs, "--trace", name, script)
    t.equal({ err, status }, { "", 0 })
    t.equal(items(objects(name), "fz.map"), jobs == 0 and 6 or 2)
  end
end

tests["a wrong name is wrong use, and nothing runs"] = function()
  local full = name_of "json"
  assert(os.execute(("ln -s /dev/full %s"):format(full)))
  for name, text in pairs {
    ["x.html"] = ".jsonl, .json or .tsv", ["/nowhere/x.tsv"] = "No such file",
    [full] = "No space left",
  } do
    local out, err, status = t.command("--trace", name, "-e", "print 'ran'")
    t.equal({ out, status }, { "", 2 })
    t.match(err, "--trace", text)
  end
end

tests["kill -9 at any moment leaves whole lines"] = function()
  local script = t.file [[
local g = fz.dag()
for i = 1, 500 do g:add("n" .. i, {}, function() return i end) end
while true do g:invoke({}, { jobs = 2 }) end]]
  for i = 1, t.rounds(20) do
    local name = name_of "jsonl"
    t.shell(([["$FZLUA" --trace %s %s & pid=$!
until_true eval 'test $(wc -l <%s) -gt 120'
sleep 0.0%d; kill -9 $pid; wait $pid]]):format(name, script, name, i % 10))
    assert(items(objects(name), "n") > 100)
  end
end

return tests
