-- test_array.lua - fz.array: elements, slices, ranges of numbers, and many processes.

local t = ...

local tests = {}

local CODES <const> = "bBhHiIlLjJfdn"

local function wrong(part, f, ...)
  t.match(t.wrong(f, ...), part)
end

local function assign(a, i, x)
  a[i] = x
end

tests["elements of every type are read as they were written"] = function()
  for code in CODES:gmatch "." do
    local a = fz.array(code, 5)
    t.equal(#a, 5)
    local zero = string.unpack(code, string.pack(code, 0))
    t.equal(a:totable(), { zero, zero, zero, zero, zero })
    for i = 1, 5 do a[i] = 10 * i end
    a[3] = 7
    local expected = {}
    for i, x in ipairs { 10, 20, 7, 40, 50 } do
      expected[i] = string.unpack(code, string.pack(code, x))
    end
    t.equal(a:totable(), expected)
    local seen = {}
    for i, x in ipairs(a) do seen[i] = x end
    t.equal(seen, expected)
    t.equal(fz.array(code, expected):totable(), expected)
    t.equal(a[2.0], expected[2])
  end
end

tests["reading outside gives nil, unknown names too"] = function()
  local a = fz.array("i", { 1, 2, 3 })
  for _, i in ipairs { 0, 4, -1, 1.5, math.mininteger, math.maxinteger, 2 ^ 70, 0 / 0 } do
    t.equal(a[i], nil)
  end
  t.equal({ a.foo, a["1"], a[true], a[a] }, {})
end

tests["writing outside or to another key raises"] = function()
  local a = fz.array("i", { 1, 2, 3 })
  for _, i in ipairs { 0, 4, -1, math.mininteger, math.maxinteger } do
    wrong(("index %d is outside an array of 3"):format(i), assign, a, i, 1)
  end
  for _, i in ipairs { 1.5, 2 ^ 70, 0 / 0 } do wrong("outside an array of 3", assign, a, i, 1) end
  wrong("is a number, not a string", assign, a, "1", 1)
  wrong("is a number, not a string", assign, a, "fill", 1)
  wrong("is a number, not a boolean", assign, a, true, 1)
  t.equal(a:totable(), { 1, 2, 3 })
end

tests["a number that does not fit and another value raise"] = function()
  local a = fz.array("B", { 1, 2, 3 })
  wrong("element 2: 256 does not fit type 'B'", assign, a, 2, 256)
  wrong("element 2: -1 does not fit type 'B'", assign, a, 2, -1)
  wrong("element 2: number has no integer representation", assign, a, 2, 0.5)
  wrong("element 3: number expected, got string", assign, a, 3, "1")
  wrong("element 3: number expected, got nil", assign, a, 3, nil)
  t.equal(a:totable(), { 1, 2, 3 })
  wrong("256 does not fit type 'B'", function() a:fill(256) end)
  wrong("number expected, got table", function() a:fill({}) end)
  t.equal(a:totable(), { 1, 2, 3 })
end

tests["fz.array takes a length or a list of numbers that fit"] = function()
  t.equal(#fz.array("d", 0), 0)
  t.equal(fz.array("d", {}):totable(), {})
  t.equal(#fz.array("d", 3.0), 3)
  wrong("unknown type code 'q'", function() fz.array("q", 3) end)
  wrong("must not be negative", function() fz.array("d", -1) end)
  wrong("too many numbers", function() fz.array("d", math.maxinteger) end)
  wrong("integer representation", function() fz.array("d", 1.5) end)
  wrong("number expected", function() fz.array("d") end)
  wrong("number expected", function() fz.array("d", true) end)
  wrong("element 2: number expected, got string", function() fz.array("d", { 1, "x" }) end)
  wrong("element 3: 300 does not fit type 'b'", function() fz.array("b", { 1, 2, 300 }) end)
end

tests["an array that is too big raises an error of kind memory"] = function()
  local e = t.fails("memory", fz.array, "d", 1 << 50)
  t.match(e.message, "memory")
  t.equal(#fz.array("d", 10), 10)
end

tests["a slice has the places of string.sub"] = function()
  local text = "abcde"
  local a = fz.array("b", { text:byte(1, -1) })
  for i = -8, 8 do
    for j = -8, 8 do
      t.equal(string.char(table.unpack(a:slice(i, j))), text:sub(i, j))
    end
    t.equal(string.char(table.unpack(a:slice(i))), text:sub(i))
  end
  t.equal(a:slice(), a:totable())
  t.equal(a:slice(math.mininteger, math.maxinteger), a:totable())
  t.equal(a:slice(math.maxinteger, math.mininteger), {})
  wrong("number expected", function() a:slice("x") end)
end

tests["fill sets all"] = function()
  local a = fz.array("h", 1000)
  a:fill(-7)
  t.equal({ a[1], a[500], a[1000], a[1001] }, { -7, -7, -7 })
  fz.array("d", 0):fill(1)
end

tests["with calls f with the array under its lock, which f may hold again"] = function()
  local a = fz.array("j", 2)
  t.equal({ a:with(function(b)
    assert(rawequal(a, b))
    return b:with(function() return 1, 2 end)
  end) }, { 1, 2 })
  assert(not pcall(a.with, a, error))
  local list = {}
  for k = 1, 3 do
    list[k] = fz.process(function()
      for _ = 1, 20000 do
        a:with(function()
          a[1] = a[1] + 1
          a[2] = a[2] - 1
        end)
      end
    end):start()
  end
  for _, p in ipairs(list) do
    p:result(50)
    p:join()
  end
  t.equal(a:totable(), { 60000, -60000 })
end

tests["workers fill parts of one that was made after they were"] = function()
  local pool <close> = fz.pool(2)
  pool:map(function() end, { 1, 2 })
  local a = fz.array("d", 1000)
  pool:starmap(function(b, i)
    for k = i, i + 99 do b[k] = k / 2 end
  end, { { a, 1 }, { a, 101 }, { a, 201 }, { a, 301 }, { a, 901 } })
  for i = 1, 1000 do
    t.equal(a[i], (i <= 400 or i > 900) and i / 2 or 0.0)
  end
  local back = pool:apply(function(list) return list[1] end, { a })
  assert(back == a)
  local made = pool:apply(function() return fz.array("b", { 1, 2, 3 }) end)
  t.equal(made:totable(), { 1, 2, 3 })
end

tests["no reader sees half an element"] = function()
  local a = fz.array("J", 8)
  local p <close> = fz.process(function()
    while true do
      a:fill(0)
      a:fill(-1)
    end
  end):start()
  for _ = 1, 20000 do
    for i = 1, 8 do
      local x = a[i]
      assert(x == 0 or x == -1, x)
    end
  end
  p:kill()
  p:join()
end

tests["a process that dies inside with blocks no other"] = function()
  local a = fz.array("i", 3)
  local p <close> = fz.process(function()
    a:with(function()
      a[1] = 1
      local file <close> = assert(io.open "/proc/self/stat")
      os.execute("kill -9 " .. file:read "n")
    end)
  end):start()
  p:join()
  t.equal(a:with(function() return a[1] end), 1)
end

tests["100 MB are shared, not copied, and freed when they are collected"] = function()
  local n = 100 * 2 ^ 20 // 8
  for _ = 1, 5 do
    local a = fz.array("d", n)
    t.equal(#a, math.tointeger(n))
    a[n] = 1.5
    local p <close> = fz.process(function()
      a[1] = a[n] + 1
    end):start()
    p:result()
    p:join()
    t.equal({ a[1], a[2], a[n] }, { 2.5, 0.0, 1.5 })
    a = nil -- luacheck: ignore
    collectgarbage()
  end
end

tests["it works in this process alone"] = function()
  local _ <close> = t.in_this_process()
  local a = fz.array("i", 3)
  fz.map(function(i) a[i] = i * i end, { 1, 2, 3 })
  t.equal(a:totable(), { 1, 4, 9 })
end

return tests
