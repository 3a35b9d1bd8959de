-- test_rawarray.lua - raw results of maps, which workers store in shared memory: they are correct
-- among other results, and however the items are distributed.

local t = ...
local fz = require "fzlua"
local core = require "fzlua.core"
local wait = require "fzlua.wait"

local tests = {}

-- Whether two values are equal. Faster than t.equal for long lists; -0.0 differs from 0.0, and two
-- NaN are equal.
local function is(a, b)
  if math.type(a) == "float" and math.type(b) == "float" then
    return string.pack("d", a) == string.pack("d", b) or a ~= a and b ~= b
  end
  if type(a) == "table" then return type(b) == "table" and is(a[1], b[1]) end
  return a == b and math.type(a) == math.type(b)
end

-- Check the list that a map of f over 1 to n has returned; it has nil for the items in `failed`.
local function check(what, list, n, f, failed)
  t.equal(list.n, n)
  for i = 1, n do
    local expected
    if not (failed and failed[i]) then expected = f(i) end
    if not is(list[i], expected) then
      error(("%s: item %d of %d: %s, not %s"):format(what, i, n, list[i], expected), 2)
    end
  end
end

-- Call g(map, what) for ways to map that distribute the items differently.
local function every_way(g)
  for _, jobs in ipairs { 1, 2, 3 } do
    g(function(f, list, options)
      options = options or {}
      options.jobs = jobs
      return fz.map(f, list, options)
    end, "fz.map " .. jobs)
  end
  local pool <close> = fz.pool(2)
  g(function(...) return pool:map(...) end, "pool:map")
  g(function(...) return pool:map_async(...):get() end, "pool:map_async")
end

local LONG <const> = ("x"):rep(60)
local LONGER <const> = ("y"):rep(5000)

local PLAIN <const> = {
  function(i) return i end, function(i) return -i / 8 end, function() return -0.0 end,
  function() return 0 / 0 end, function() return -math.huge end, function() return true end,
  function() return false end, function() return nil end, function() end,
  function() return math.mininteger end, function(i) return i * 2.0 ^ 60 end,
}

local function plain(i)
  return PLAIN[i * 7919 % #PLAIN + 1](i)
end

local ODD <const> = {
  function(i) return "s" .. i end, function(i) return LONG .. i end, function(i) return { i } end,
  function(i) return LONGER .. i end,
}

local function odd(i)
  return ODD[i * 7919 % #ODD + 1](i)
end

local MIXTURES <const> = {
  plain = plain,
  ["every other one"] = function(i) return (i % 2 == 0 and plain or odd)(i) end,
  blocks = function(i) return (i // 300 % 2 == 0 and plain or odd)(i) end,
  ["one in 256"] = function(i) return (i % 256 == 255 and odd or plain)(i) end,
  ["the first 300"] = function(i) return (i <= 300 and odd or plain)(i) end,
  ["all but the first 300"] = function(i) return (i > 300 and odd or plain)(i) end,
}

tests["any mixture of results is that of a loop"] = function()
  every_way(function(map, way)
    for what, f in pairs(MIXTURES) do
      for _, n in ipairs { 255, 256, 257, 513, 4095 } do
        check(way .. ", " .. what, map(f, t.numbers(n)), n, f)
      end
      local list = map(f, t.numbers(1000), { chunksize = 256 })
      check(way .. ", chunks, " .. what, list, 1000, f)
    end
  end)
end

tests["more items than one chunk can have"] = function()
  local n = (1 << 20) + 300
  local function f(i) return i % 2 == 0 and i or i / 2 end
  check("one worker", fz.map(f, t.numbers(n), { jobs = 1 }), n, f)
end

tests["a list of results is an ordinary list"] = function()
  local list = fz.map(function(i) return i % 3 ~= 0 and i or nil end, t.numbers(999), { jobs = 2 })
  list[1], list[1000], list.more = {}, "behind", true
  collectgarbage()
  t.equal({ list[2], list[3], list[998], list[1000], list.n }, { 2, nil, 998, "behind", 999 })
  local n = 0
  for _ in pairs(list) do n = n + 1 end
  t.equal(n, 666 + 3) -- 3 are "behind", more and n
end

tests["items that fail leave the others where they belong"] = function()
  every_way(function(map, way)
    for what, f in pairs(MIXTURES) do
      for _, wrong in ipairs { { 1 }, { 999 }, { 1, 2, 500, 501, 999 } } do
        local failed = {}
        for _, i in ipairs(wrong) do failed[i] = true end
        local list = map(function(i)
          if failed[i] then error "wrong" end
          return f(i)
        end, t.numbers(999), { on_error = "continue" })
        check(way .. ", " .. what, list, 999, f, failed)
        for i = 1, 999 do
          t.equal(list.errors[i] and list.errors[i].index, failed[i] and i or nil)
        end
      end
    end
  end)
end

tests["a worker that is killed takes one item with it, none where it is tried again"] = function()
  local function double(i) return 2 * i end
  every_way(function(map, way)
    local first = fz.value("b", 1)
    local function f(i)
      if i == 600 and first:add(-1) >= 0 then
        local file <close> = assert(io.open "/proc/self/stat")
        os.execute("kill -9 " .. file:read "n")
      end
      return 2 * i
    end
    local list = map(f, t.numbers(1000), { on_error = "continue" })
    local lost = { [600] = true }
    for i in pairs(t.exact and {} or list.errors) do lost[i] = true end
    check(way, list, 1000, double, lost)
    t.equal(list.errors[600].kind, "crash")
    first.value = 1
    check(way, map(f, t.numbers(1000), { retries = 1, backoff = 0.01 }), 1000, double)
  end)
end

tests["a limit of time ends one item between those that take none"] = function()
  every_way(function(map, way)
    local list = map(function(i)
      while i == 700 do end
      return -i
    end, t.numbers(1000), { timeout = 1, on_error = "continue" })
    check(way, list, 1000, function(i) return -i end, { [700] = true })
    t.equal(list.errors[700].kind, "timeout")
  end)
end

tests["an item that takes long keeps no other one waiting"] = function()
  if not t.exact then return end
  every_way(function(map, way)
    if way == "fz.map 1" then return end
    for _, slow in ipairs { 1, 499, 501, 999 } do
      local left = fz.value("i", 999)
      local list = map(function(i)
        local deadline = fz.now() + 10
        while i == slow and left.value > 1 do -- wait until all other items are done
          if fz.now() > deadline then error "others wait for this item" end
        end
        left:add(-1)
        return i
      end, t.numbers(999))
      check(way, list, 999, function(i) return i end)
    end
  end)
end

tests["progress is called once for each item"] = function()
  every_way(function(map, way)
    local last, ended = 0, {}
    local list = map(function(i)
      return MIXTURES.blocks(i)
    end, t.numbers(3000), { progress = function(done, total, event)
      assert(done >= last and done <= total)
      last = done
      if event.kind == "done" then ended[event.index] = (ended[event.index] or 0) + 1 end
    end })
    check(way, list, 3000, MIXTURES.blocks)
    t.equal(last, 3000)
    for i = 1, 3000 do t.equal(ended[i], 1) end
  end)
end

-- Changes that a callback may make to a list of n results between two copies into the list.
local CHANGES <const> = {
  grown = function(list, n, turn) for i = 1, 99 do list[n + turn * 99 + i] = "more" end end,
  shrunk = function(list, n, turn)
    for i = 1, n do list[i] = nil end
    for i = 1, 9 do list[-turn * 9 - i] = "more" end
  end,
  measured = function(list) assert(#list >= 0) end,
}

tests["results reach a list that is moved or shrunk between two copies"] = function()
  local n <const> = 20000
  local pool <close> = fz.pool(2)
  for name, change in pairs(CHANGES) do
    local turns = fz.value("i", 0)
    local function f(i)
      local deadline = i == n and fz.now() + 20 or 0 -- the last item waits for a change
      while turns.value == 0 and fz.now() < deadline do end
      return 2 * i
    end
    local batch <close> = core.batch(pool._core, f, t.numbers(n), {
      kind = "map", n = n, chunk = 256, on_error = "stop", seed = 1,
    })
    local list, results = batch:list(), { n = n }
    batch:start()
    wait.until_done {
      pump = function()
        if not batch:news() then return end
        batch:take(list, {})
        for i = 1, n do results[i] = results[i] or list[i] end
        change(list, n, turns:add(1))
      end,
      done = function() return batch:done() and not batch:news() end,
    }
    assert(turns.value > 1, name)
    check(name, results, n, function(i) return 2 * i end)
  end
end

tests["finalizers that map while a map begins"] = function()
  local calls = 0
  local function finalize()
    calls = calls + 1
    check("inner", fz.map(math.abs, t.numbers(300), { jobs = 1 }), 300, math.abs)
  end
  local list = t.numbers(100000)
  for _ = 1, 20 do
    for _ = 1, 3 do setmetatable({}, { __gc = finalize }) end
    check("outer", fz.map(math.abs, list, { jobs = 2 }), 100000, math.abs)
  end
  assert(calls > 0)
end

tests["an element of starmap has as many arguments as its field n says"] = function()
  local list, expected = {}, {}
  for i = 1, 60 do -- elements and other fields are in the hash part of a table, in any order
    local item = i % 2 == 0 and { n = i % 5 } or {}
    for k = 1, i % 7 do item["k" .. i * k] = true end
    for k = i % 3 + 1, 1, -1 do item[k] = k end
    item.n = i % 5
    list[i], expected[i] = item, i % 5
  end
  list[61], expected[61] = { n = 3, [1] = "a" }, 3
  list[62], expected[62] = { 1, 2, n = 0 }, 0
  list[63], expected[63] = table.pack(nil, nil), 2
  local function count(...) return select("#", ...) end
  expected.n = #expected
  for _, jobs in ipairs { 0, 1, 2 } do
    t.equal(fz.starmap(count, list, { jobs = jobs }), expected)
  end
  local pool <close> = fz.pool(2)
  t.equal(pool:starmap(count, list), expected)
end

-- Elements of every shape. The way in which a table is made decides whether Lua stores its values
-- in the array part or in the hash part.
local SHAPES <const> = {
  function(i) return { i, i + 1 } end, function(i) return { i } end, function() return {} end,
  function(i) return { i, 0.5, i, -i } end, function(i) return { i, i, i } end,
  function(i) return { i, nil, i } end, function(i) return { i, "s" } end,
  function(i) return { i, true } end, function(i) return { i, { i } } end,
  function(i) return { [1] = i, [2] = i } end, function(i) return { i, i, n = 1 } end,
  function(i) return { i, i, n = 3 } end, function(i) return { i, i, x = 1 } end,
  function(i) return setmetatable({ i, i }, { __index = { 1, 2, 3 }, __len = error }) end,
  function(i) return table.pack(i, nil) end,
  function(i) local e = { i, i, i, i } e[4] = nil e[3] = nil return #e == 2 and e or e end,
  function(i) local e = { i, i, i, i } e[1] = nil return e end,
  function(i) local e = { i, i } e.x = 1 e.x = nil return e end,
  function(i) local e = { i, i } e[3] = i return e end,
  function(i) local e = { i, i } e[2] = nil return e end,
  function(i) local e = {} for k = 1, 4 do e[k] = i + k end return e end,
  function(i) local e = { i, i, i, i } e[4] = nil return #e == 3 and e or e end,
  function(i) local e = { i, i, i, nil, i, i } e[6] = nil e[5] = nil return #e and e end,
}

tests["elements of every shape are the arguments that table.unpack makes of them"] = function()
  local list, expected = {}, { n = 1000 }
  local function tell(...)
    local told = { select("#", ...) }
    for k = 1, told[1] do
      local v = select(k, ...)
      told[k + 1] = type(v) == "table" and v[1] or tostring(v)
    end
    return table.concat(told, " ")
  end
  for i = 1, 1000 do
    local e = SHAPES[i * 7919 % #SHAPES + 1](i)
    list[i], expected[i] = e, tell(table.unpack(e, 1, rawget(e, "n") or rawlen(e)))
  end
  for _, jobs in ipairs { 0, 1, 2 } do
    t.equal(fz.starmap(tell, list, { jobs = jobs }), expected)
  end
end

-- A call may change the list and its elements; later calls in the same worker see the changes.
local function change(list)
  return function(i, j)
    if i % 50 == 0 then list[i + 1] = { i, "changed" } end
    if i % 70 == 0 then list[i + 1] = setmetatable({ 1, 2 }, {}) end
    if i % 90 == 0 then list[i + 2][2] = nil end
    if i % 110 == 0 then list[i + 2][3] = i end
    if i % 130 == 0 then for k = 1, 500 do list[#list + 1] = { k, k } end end
    if i % 170 == 0 then for k = 1, 400 do list["k" .. i + k] = { k } end end
    if i % 410 == 0 then collectgarbage() end
    return ("%s %s"):format(i, j)
  end
end

tests["a list that is changed while it is being mapped"] = function()
  local function make(n)
    local list = {}
    for i = 1, n do list[i] = { i, i } end
    return list
  end
  local n <const> = 1000
  local list, expected = make(n), { n = n }
  local f = change(list)
  for i = 1, n do expected[i] = f(table.unpack(list[i])) end
  list = make(n)
  t.equal(fz.starmap(change(list), list, { jobs = 1 }), expected)

  local numbers, seen = t.numbers(n), {}
  local function shrink(i)
    if i % 100 == 0 then for k = i + 1, i + 50 do numbers[k] = ("s%d"):format(k) end end
    return i
  end
  for i = 1, n do
    local changed = i > 100 and i % 100 >= 1 and i % 100 <= 50
    seen[i] = changed and ("s%d"):format(i) or i
  end
  local function tolerant(i) return type(i) == "number" and shrink(i) or i end
  seen.n = n
  t.equal(fz.map(tolerant, numbers, { jobs = 1 }), seen)
end

tests["workers that are older than the first map place its results, too"] = function()
  local out = t.shell(([["$FZLUA" %s]]):format(t.file [[
local list = {}
for i = 1, 20000 do list[i] = i end
local pool <close> = fz.pool(2)
local function pid() fz.exec({ "sleep", "0.1" }) return fz.current_process().pid end
local a, b = pool:apply_async(pid), pool:apply_async(pid)
print(a:get() ~= b:get())
for _, f in ipairs { function(x) return x * 2 end, function(x) return x + 0.5 end } do
  local got, wrong = pool:map(f, list, { chunksize = 1000 }), 0
  for i = 1, #list do if got[i] ~= f(i) then wrong = wrong + 1 end end
  print(got.n, wrong)
end
]]))
  t.equal(out, "true\n20000\t0\n20000\t0\n")
end

-- The chi-squared statistic of the counts of 256 cells; for random numbers it is about 255.
local function unevenness(pairs_of, n)
  local counts, sum = {}, 0
  for i = 1, n do counts[pairs_of[i]] = (counts[pairs_of[i]] or 0) + 1 end
  for cell = 0, 255 do sum = sum + ((counts[cell] or 0) - n / 256) ^ 2 / (n / 256) end
  return sum
end

tests["random numbers of one call, and of neighbours, are not alike"] = function()
  local n = 1 << 15
  local items = t.numbers(n)
  local function map(f) return fz.map(f, items, { jobs = 2, seed = 1 }) end
  for first = 1, 3 do
    for second = first + 1, 4 do
      local cells = map(function()
        local drawn = {}
        for k = 1, second do drawn[k] = math.random(0, 15) end
        return drawn[first] * 16 + drawn[second]
      end)
      assert(unevenness(cells, n) < 400, first .. " and " .. second) -- low bits
      cells = map(function()
        local drawn = {}
        for k = 1, second do drawn[k] = math.random() * 16 // 1 | 0 end
        return drawn[first] * 16 + drawn[second]
      end)
      assert(unevenness(cells, n) < 400, first .. " and " .. second) -- high bits
    end
  end
  local drawn = map(function() return math.random() * 16 // 1 | 0 end)
  local cells = {}
  for i = 1, n do cells[i] = drawn[i] * 16 + drawn[i % n + 1] end
  assert(unevenness(cells, n) < 400, "neighbours")
end

tests["all bits of a call's first numbers take both values"] = function()
  local function bits(k)
    local ones, zeros = 0, 0
    local list = fz.map(function()
      for _ = 1, k - 1 do math.random(0) end
      return math.random(0)
    end, t.numbers(1000), { jobs = 2, seed = 1 })
    for i = 1, 1000 do ones, zeros = ones | list[i], zeros | ~list[i] end
    return { ones, zeros }
  end
  for k = 1, 4 do t.equal(bits(k), { -1, -1 }) end
end

tests["what an item does to the random numbers is seen by no other item"] = function()
  local random, randomseed = math.random, math.randomseed
  local function draw(i)
    if i % 7 == 0 then randomseed(i) end
    for _ = 1, i % 3 do random() end
    return random(0)
  end
  local expected
  for _, jobs in ipairs { 0, 1, 2, 3 } do
    for _, chunksize in ipairs { 1, 7, 300 } do
      local list = fz.map(draw, t.numbers(1000), { jobs = jobs, chunksize = chunksize, seed = 5 })
      expected = expected or list
      t.equal(list, expected)
    end
  end
end

tests["maps leave the caller's random numbers alone"] = function()
  for _, jobs in ipairs { 0, 2 } do
    math.randomseed(11)
    local expected = { math.random(0), math.random(0) }
    for _, f in ipairs { function() return math.random(0) end, function() end } do
      math.randomseed(11)
      local first = math.random(0)
      fz.map(f, t.numbers(300), { jobs = jobs })
      t.equal({ first, math.random(0) }, expected)
    end
  end
  math.randomseed()
end

return tests
