-- Recorded values whose bytes are whole, and which this process cannot decode: they are computed
-- anew, wherever they are read.
local t = ...
local core = require "fzlua.core"
local recorded = assert(loadfile "tests/support/recorded.lua")(t)
local new_path, run = recorded.new_path, recorded.run
local tests = {}

-- Replace all recorded values, and keep their digests.
local function forge(store, bytes)
  local db <close> = core.database(store, 1)
  db:run("UPDATE results SET raw = 0, bytes = ?, sum = ?", bytes, core.hash(bytes))
end

-- The list of a map in which an element is a message of its own, as an older build recorded it: the
-- list does not have the flag for functions.
local function old_list()
  local inner = core.encode(function() end)
  local list = core.encode { n = 1 }
  return list:sub(1, 3) .. "\xcf\1\1\0\0\0" .. "\xdf" .. ("<s4"):pack(inner) .. "\x81n\1"
end

-- An object of a class that no script knows.
local function object(name, metatable)
  return core.encode(setmetatable({ x = 1 }, core.register_class("recorded." .. name, metatable)))
end

local FORGERIES <const> = {
  { "a value of a later build", "\2\0\1\5", "not a packed message: an unknown version at byte 1" },
  { "a list of an older build", old_list(), "an inner message with other flags" },
  { "an object that is unpacked", object("Packed", { __fzpack = function(p) return p.x end }),
    "class 'recorded.Packed' is not registered here (call fz.register_class" },
  { "a table with a class", object("Class", {}),
    "class 'recorded.Class' is not registered here (call fz.register_class" },
  { "a class whose module is missing", object("Late", { __fzpack = function(p) return p.x end }),
    "module 'no.such.module' not found",
    [[fz.register_class("recorded.Late", { __fzunpack = function() require "no.such.module" end })]]
  },
  { "a registered value", core.encode(core.register_value("recorded.value", {})),
    "value 'recorded.value' is not registered here" },
  { "a queue", core.encode(fz.queue()), "shared objects are not allowed" },
  { "two values", core.encode(1, 2), "it is not one value" },
  { "an object of a known class", object("Known", {}), "its contents have changed",
    [[fz.register_class("recorded.Known", {})]] },
}

-- Scripts, the functions that run, and how often the warning comes.
local SCRIPTS <const> = {
  dag = { [[
local g = fz.dag()
g:add("A", {}, function() ran "A" return 4 end)
g:add({ "B", "C" }, { "A" }, function(a) ran "B" return { a }, a + 1 end)
g:map("D", "list", function(x) ran "D" return x * 2 end)
g:map("E", { "D", "A" }, function(x, a) ran "E" return x + a end)
g:invoke({ list = { 1, 2 } })
local o = g.output
print(o.A, o.B[1], o.C, o.D[2], o.E[2])]], "ABDDEE", 4 },
  stream = { [[
local s, u = fz.stage "s", fz.stage "u"
s:register("A", "x", function(x) ran "A" return { x } end)
u:register("B", "A", function(a) ran "B" return a[1] + 1 end)
u:map("C", "list", function(x) ran "C" return x end)
for i, out in (s >> u):stream { { x = 1, list = { 1, 2 } }, { x = 2, list = { 3 } } } do
  print(i, out.B, #out.C)
end]], "AABBCCC", 3 },
  map = { [[
local out = fz.map(function(x) ran "A" return { x } end, { 1, 2, 3 })
print(out[1][1], out[2][1], out[3][1])]], "AAA", 1 },
  imap = { [[
local pool <close> = fz.pool(2)
for i, v in pool:imap(function(x) ran "A" return { x } end, { 1, 2, 3 }) do print(i, v[1]) end]],
    "AAA", 1 },
  call = { [[
local pool <close> = fz.pool { workers = 1, cache = true }
print(pool:apply(function(x) ran "A" return x, { x } end, 3) == 3)
print(pool:apply_async(function(x) ran "B" return x end, { 4 }):get())]], "AB", 2 },
}

-- Numbers of warnings about results, and of results that they count.
local function count_warnings(err)
  local lines, more = 0, 0
  for line in err:gmatch "[^\n]+" do
    if line:find "cannot be read and is computed again: " then lines = lines + 1 end
    more = more + (tonumber(line:match "further results that could not be read: (%d+)") or 0)
  end
  return lines, more
end

local function check(kind, forgery)
  local name, bytes, why, head = table.unpack(forgery)
  local script, all, nfunctions = table.unpack(SCRIPTS[kind])
  -- The results of a call are one value, of any number of values.
  if kind == "call" and why == "it is not one value" then why = "its contents have changed" end
  local store = new_path()
  script = (head or "") .. "\n" .. script
  local ran, out, _, status = run(script, store)
  t.equal({ kind, ran, status }, { kind, all, 0 })
  forge(store, bytes)
  local again, same, err
  again, same, err, status = run(script, store)
  t.equal({ kind, name, again, same, status }, { kind, name, all, out, 0 })
  assert(err:find(why, 1, true), err)
  local lines, more = count_warnings(err)
  assert(lines == nfunctions and lines + more >= #all - 1, err)
  t.equal(select(2, err:gsub("\n", "")), lines + (more > 0 and 1 or 0))
  t.equal({ kind, name, run(script, store) }, { kind, name, "", out, "", 0 })
end

for kind in pairs(SCRIPTS) do
  tests["values that cannot be decoded are computed anew: " .. kind] = function()
    for _, forgery in ipairs(FORGERIES) do check(kind, forgery) end
  end
end

-- Run the command with this store. Returns its output, standard error and status.
local function command(store, arguments)
  return t.shell(("FZLUA_CACHE=%s $FZLUA %s"):format(store, arguments))
end

tests["-n, --cache and --debug-failed with a value that cannot be decoded"] = function()
  local store, bytes = new_path(), FORGERIES[3][2]
  local script = t.file [[
local s, u = fz.stage "s", fz.stage "u"
s:register("A", {}, function() return 4 end)
s:map("M", "list", function(x) return x end)
u:register("B", { "A", "M" }, function(a) error("no " .. a, 0) end)
return s >> u]]
  local arguments = "--resume " .. script .. " 'list=[1,2]'"
  t.match(select(2, command(store, arguments)), "no 4")
  forge(store, bytes)
  local out, err, status = command(store, "-n " .. arguments)
  t.equal({ (out:gsub(" +", " ")), status }, {
    "run s.A its result cannot be read\nrun s.M its result cannot be read; 0 of 2 elements are "
      .. "recorded\nrun u.B it failed: no 4\n3 to run, 0 perhaps, 0 recorded\n", 0 })
  t.match(err, "the result of s.A cannot be read", "the result of s.M cannot be read")
  local shown
  shown, err, status = command(store, "--cache show A")
  t.equal({ err, status }, { "", 0 })
  t.match(shown, "s.A\n")
  t.equal({ select(2, command(store, "--cache ls")) }, { "", 0 })
  out, err, status = command(store, "--debug-failed B " .. arguments)
  t.equal({ out, status }, { "", 1 })
  t.match(err, "the result of s.A cannot be read", "no 4")
  out, err = command(store, "-n " .. arguments)
  t.match(out, "recorded  s.A\nrecorded  s.M\n")
  t.equal(err, "")
end

tests["a table whose class only workers know is used as it was recorded"] = function()
  local store, script = new_path(), [[
local s, u = fz.stage "s", fz.stage "u"
s:register("A", {}, function()
  ran "A"
  return setmetatable({ x = 4 }, fz.register_class("recorded.Inner", {}))
end)
u:register("B", "A", function(a) ran "B" return a.x end)
return s >> u]]
  local ran, out, err = run(script, store)
  t.equal(ran, "AB")
  t.match(err, "has lost its metatable")
  local again, same, warning = run(script, store)
  t.equal({ again, same }, { "", out })
  t.match(warning, "has lost its metatable")
  t.equal(select(2, warning:gsub("\n", "")), 1)
  local known = 'fz.register_class("recorded.Inner", {})\n' .. script
  ran, out, err = run(known, store)
  t.equal({ ran, out }, { "AB", same })
  t.match(err, "the result of s.A cannot be read and is computed again: its contents have")
end

return tests
