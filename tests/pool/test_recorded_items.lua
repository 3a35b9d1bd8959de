-- Results of maps, imaps and calls of pools that are recorded in a file.
local t = ...
local recorded = assert(loadfile "tests/support/recorded.lua")(t)
local new_path, read = recorded.new_path, recorded.read
local tests = {}

-- Run a script whose functions append a letter to a file. Returns the letters, sorted, the output
-- and standard error.
local function run(script, options)
  local log = new_path()
  local path = t.file([[
local function ran(letter)
  local file <close> = io.open(os.getenv "LOG", "a")
  file:write(letter)
end
local function show(list)
  local texts = {}
  for i = 1, list.n do texts[i] = tostring(list[i]) end
  print(table.concat(texts, " "))
end
]] .. script)
  local out, err = t.shell(("LOG=%s $FZLUA %s %s"):format(log, options, path))
  local letters = {}
  for letter in read(log):gmatch "." do letters[#letters + 1] = letter end
  table.sort(letters)
  return table.concat(letters), out, err
end

-- Scripts, the calls that run in the first run, and the calls that run in each further run.
local CALLS <const> = {
  { "show(fz.map(function(x) ran 'a' return x * 2 end, {1, 2, 3}))", "aaa", "" },
  { "show(fz.map(function(x) ran 'a' return x end, {1, nil, 3, n = 3}))", "aaa", "" },
  { "show(fz.starmap(function(x, y) ran 'a' return x + y end, {{1, 2}, {3, 4}}))", "aa", "" },
  { "show(fz.map(function(x) ran 'a' return x end, {1, 2}, { cache = false }))", "aa", "aa" },
  { "show(P:map(function(x) ran 'a' return x .. '!' end, {1, 2, 3}))", "aaa", "" },
  { "show(P:map(function(x) ran 'a' return x end, {1, 2}, { seed = 3 }))", "aa", "" },
  { "show(P:map_async(function(x) ran 'a' return x end, {1, 2, 3}):get())", "aaa", "" },
  { "show(P:starmap_async(function(x) ran 'a' return x end, {{1}, {2}}):get())", "aa", "" },
  { "for i, v in P:imap(function(x) ran 'a' return x end, {1, nil, 'x', n = 3}) do print(i, v) end",
    "aaa", "" },
  { "for _, v in P:imap(function(x) ran 'a' return { x } end, {{1}, {2}}) do print(v[1][1]) end",
    "aa", "" },
  { "local n = 0 for _, v in P:imap_unordered(function(x) ran 'a' return x end, {1, 2}) do "
    .. "n = n + v end print(n)", "aa", "" },
  { "for _, v in P:imap(function(k, v) ran 'a' return k .. v end, pairs { a = 1 }) do print(v) end",
    "a", "" },
  { "print(P:apply(function(x) ran 'a' return x end, 1))", "a", "a" },
  { "print(C:apply(function(...) ran 'a' return ... end, 1, nil, 3))", "a", "" },
  { "print(C:apply_async(function(...) ran 'a' return ... end, {1, 2}):get())", "a", "" },
  { "print(P:apply_async(function() ran 'a' return 7 end, {}, { cache = true }):get())", "a", "" },
  { "print(C:apply_async(function() ran 'a' return 7 end, {}, { cache = false }):get())", "a",
    "a" },
  { "print(P:fold(function(acc, x) ran 'a' return acc + x end, {1, 2}, 0, math.max))", "aa", "aa" },
}

tests["a second run calls nothing that is recorded, and returns the same"] = function()
  for _, case in ipairs(CALLS) do
    local store, first = new_path(), nil
    local script = "local P <close> = fz.pool(2)\nlocal C <close> = fz.pool { cache = true }\n"
      .. case[1]
    for i, jobs in ipairs { "-j2", "-j1", "-j0" } do
      local ran, out, err = run(script, jobs .. " --resume=" .. store)
      first = first or out
      t.equal({ case[1], jobs, ran, out, err },
        { case[1], jobs, i == 1 and case[2] or case[3], first, "" })
    end
  end
end

tests["only new items are called, and what has failed"] = function()
  local store, flag = new_path(), new_path()
  local map = ([[
show(fz.map(function(x)
  ran(tostring(x))
  if x == 3 and not io.open(%q) then
    repeat fz.sleep(0.01) until #io.open(os.getenv "LOG"):read "a" == 3
    fz.sleep(0.5) -- time for the results of the other items to arrive
    error "not yet"
  end
  return x * 2
end, LIST))]]):format(flag)
  local function with(list) return run((map:gsub("LIST", list)), "-j2 --resume=" .. store) end
  local ran, _, err = with "{1, 2, 3}"
  t.equal(ran, "123")
  t.match(err, "not yet")
  io.open(flag, "w"):close()
  local again, out = with "{4, 1, 2, 3, 2}"
  t.equal({ again, out }, { "34", "8 2 4 6 4\n" })
  t.equal((with "{3, 4}"), "")
end

tests["functions, init, version and seed make new keys"] = function()
  local store = new_path()
  local script = [[
local k = 1
show(fz.map(function(x) ran 'a' return x + k end, {1, 2}, { INIT }))]]
  local function with(from, to, options)
    return (run((script:gsub(from, to):gsub("INIT", options or "")), "--resume=" .. store))
  end
  t.equal(with("", ""), "aa")
  t.equal(with("", "", "init = function() end"), "aa")
  t.equal(with("", "", "version = '2'"), "aa")
  t.equal(with("", "", "seed = 5"), "aa")
  t.equal(with("k = 1", "k = 2"), "aa")
  t.equal(with("x %+ k", "x - k"), "aa")
  t.equal(with("", "", "seed = 5"), "")
  t.equal(with("local k = 1", "-- a comment\nlocal k = 1"), "")
end

tests["the numbers of a seed do not depend on what was recorded"] = function()
  local store = new_path()
  local script = "show(fz.map(function() return math.random(1e9) end, LIST, { seed = 1 }))"
  local function with(list, options)
    return select(2, run((script:gsub("LIST", list)), options .. " -j2"))
  end
  local all = with("{1, 1, 1, 1}", "")
  with("{1, 1}", "--resume=" .. store)
  t.equal(with("{1, 1, 1, 1}", "--resume=" .. store), all)
end

tests["what cannot be recorded is called, and the log says why"] = function()
  local store = new_path()
  local script = [[
local q = fz.queue()
for _, v in ipairs(fz.map(function(x) ran 'a' return function() return x end end, {1})) do
  print(v())
end
show(fz.map(function(x) ran 'b' return type(x) end, {q}))
show(fz.map(function(x) ran 'c' return q:size() + x end, {1}))]]
  for _ = 1, 2 do
    local ran, out, err = run(script, "--resume=" .. store)
    t.equal({ ran, out }, { "abc", "1\nuserdata\n1\n" })
    t.match(err, "is not recorded: a function is among its values", "item 1: ",
      "is not recorded: <upvalue q>: a fzlua.Queue")
  end
end

tests["events, errors, callbacks and leaving a loop"] = function()
  local store = new_path()
  local pool <close> = fz.pool { workers = 2, resume = store }
  local function f(x) return x end
  for round = 1, 2 do
    local cached, last = 0, 0
    pool:map(f, { 1, 2, 3 }, { progress = function(done, total, e)
      if e.cached then
        t.equal({ e.kind, e.pid }, { "done" })
        cached = cached + 1
      end
      t.equal(total, 3)
      last = done
    end })
    t.equal({ cached, last }, { round == 1 and 0 or 3, 3 })
  end
  local function odd(x) return x % 2 == 1 and x or error "even" end
  for _ = 1, 2 do
    local list = pool:map(odd, { 1, 2, 3 }, { on_error = "continue" })
    t.equal({ list[1], list[2], list[3], list.errors[2].index }, { 1, nil, 3, 2 })
  end
  for i, v in pool:imap(f, { 5, 6, 7 }) do
    t.equal(v, 5)
    if i == 1 then break end
  end
  local got
  for _ = 1, 2 do
    pool:apply_async(f, { 4 }, { cache = true, callback = function(v) got = v end }):get()
    t.equal(got, 4)
    got = nil
  end
  local r = pool:apply_async(function() fz.sleep(60) end, {}, { cache = true })
  r:cancel()
  t.equal(pool:map(function(x) return x end, {}).n, 0)
end

return tests
