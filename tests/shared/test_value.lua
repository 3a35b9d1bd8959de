-- test_value.lua - fz.value: ranges of the types, waits for its lock, and holders that die.

local t = ...

local tests = {}

local INTEGERS <const> = "bBhHiIlLjJ"

-- Check that f(...) raises a text that contains `part`.
local function wrong(part, f, ...)
  t.match(t.wrong(f, ...), part)
end

local function assign(v, x)
  v.value = x
end

local function add(v, n)
  return v:add(n)
end

local function kill_self()
  local file <close> = assert(io.open "/proc/self/stat")
  os.execute("kill -9 " .. file:read "n")
end

tests["what one writes one reads, integers as integers and floats as floats"] = function()
  for code in INTEGERS:gmatch "." do
    local v = fz.value(code)
    t.equal(v.value, 0)
    v.value = 17
    t.equal(v.value, 17)
    v.value = 3.0
    t.equal(v.value, 3)
    t.equal(fz.value(code, 5).value, 5)
  end
  for _, code in ipairs { "f", "d", "n" } do
    local v = fz.value(code)
    t.equal(v.value, 0.0)
    v.value = 2
    t.equal(v.value, 2.0)
    v.value = -0.5
    t.equal(v.value, -0.5)
    v.value = math.huge
    t.equal(v.value, math.huge)
    v.value = 0 / 0
    assert(v.value ~= v.value)
  end
  t.equal(fz.value("f", 0.1).value, string.unpack("f", string.pack("f", 0.1)))
end

tests["the limits of every integer type are those of string.pack"] = function()
  for code in INTEGERS:gmatch "." do
    local bits = 8 * string.packsize(code)
    local signed = code:lower() == code
    local low, high = math.mininteger, math.maxinteger
    if bits < 64 then
      low = signed and -(1 << bits - 1) or 0
      high = (1 << (signed and bits - 1 or bits)) - 1
      local v = fz.value(code, 1)
      wrong(("%d does not fit type '%s'"):format(high + 1, code), assign, v, high + 1)
      wrong(("%d does not fit type '%s'"):format(low - 1, code), assign, v, low - 1)
      t.equal(v.value, 1)
      assert(not pcall(string.pack, code, high + 1) and not pcall(string.pack, code, low - 1))
    end
    local v = fz.value(code, high)
    t.equal(v.value, high)
    v.value = low
    t.equal(v.value, low)
    t.equal(string.unpack(code, string.pack(code, low)), low)
  end
end

tests["a value of another type raises and changes nothing"] = function()
  for code in (INTEGERS .. "fdn"):gmatch "." do
    local v = fz.value(code, 4)
    local before = v.value
    for _, x in ipairs { "5", true, {}, print } do
      wrong("number expected, got " .. type(x), assign, v, x)
      wrong("number expected, got " .. type(x), add, v, x)
    end
    wrong("number expected, got nil", assign, v, nil)
    wrong("number expected, got no value", function() v:add() end)
    t.equal(v.value, before)
  end
  for code in INTEGERS:gmatch "." do
    local v = fz.value(code, 4)
    for _, x in ipairs { 1.5, 2 ^ 63, math.huge, 0 / 0 } do
      wrong("no integer representation", assign, v, x)
      wrong("no integer representation", add, v, x)
    end
    t.equal(v.value, 4)
  end
  local v = fz.value("f", 1)
  wrong("1e+300 does not fit type 'f'", assign, v, 1e300)
  t.equal(v.value, 1.0)
end

tests["fz.value takes a type code and a number that fits"] = function()
  wrong("unknown type code 'x'", function() fz.value("x", 1) end)
  wrong("unknown type code 'i4'", function() fz.value("i4", 1) end)
  wrong("unknown type code ''", function() fz.value("", 1) end)
  wrong("unknown type code 'T'", function() fz.value("T", 1) end)
  wrong("string expected", function() fz.value() end)
  wrong("300 does not fit type 'b'", function() fz.value("b", 300) end)
  wrong("number expected, got table", function() fz.value("d", {}) end)
end

tests["it has one field, methods, and nothing else"] = function()
  local v = fz.value("i", 1)
  t.equal({ v.other, v[1], v[true] }, {})
  wrong("one field, 'value'", function() v.other = 1 end)
  wrong("one field, 'value'", function() v[1] = 1 end)
  wrong("fzlua.Value expected", function() v.add({}, 1) end)
  t.match(tostring(v), "fzlua.Value: ")
end

tests["add returns the sum, or raises and leaves the value"] = function()
  local v = fz.value("d", 0.5)
  t.equal(v:add(1), 1.5)
  t.equal(v:add(-2), -0.5)
  t.equal(v.value, -0.5)
  for code in INTEGERS:gmatch "." do
    v = fz.value(code, 3)
    t.equal(v:add(4), 7)
    t.equal(v:add(-2.0), 5)
    local bits, signed = 8 * string.packsize(code), code:lower() == code
    local low = signed and (bits < 64 and -(1 << bits - 1) or math.mininteger) or 0
    local high = signed and low - 1 or (bits < 64 and (1 << bits) - 1 or -1)
    if signed and bits < 64 then high = -low - 1 end
    v.value = high
    wrong("does not fit type '" .. code, add, v, 1)
    wrong("does not fit type '" .. code, add, v, math.maxinteger)
    t.equal(v.value, high)
    v.value = low
    wrong("does not fit type '" .. code, add, v, -1)
    wrong("does not fit type '" .. code, add, v, math.mininteger)
    t.equal(v.value, low)
    t.equal(v:add(1), low + 1) -- the lock was released after the errors
  end
  v = fz.value("f", 3e38)
  wrong("does not fit type 'f'", add, v, 3e38)
  t.equal(v:add(-3e38), string.unpack("f", string.pack("f", 3e38)) - 3e38)
  v = fz.value("d", 1.7e308)
  t.equal(v:add(1.7e308), math.huge)
end

tests["four processes that add lose nothing"] = function()
  local v, d = fz.value("j"), fz.value("d")
  local processes = {}
  for i = 1, 4 do
    processes[i] = fz.process(function()
      for _ = 1, 50000 do
        v:add(1)
        d:add(0.5)
      end
    end):start()
  end
  for _, p in ipairs(processes) do t.equal(p:join(30), true) end
  t.equal({ v.value, d.value }, { 200000, 100000.0 })
end

tests["with calls f with the value and returns what it returns"] = function()
  local v = fz.value("i", 1)
  t.equal({ v:with(function(w, extra)
    assert(rawequal(v, w) and extra == nil)
    return 1, nil, 3
  end) }, { 1, nil, 3 })
  t.equal(select("#", v:with(function() end)), 0)
  t.equal(select("#", v:with(function() return nil, nil end)), 2)
  wrong("function expected, got no value", function() v:with() end)
end

tests["inside with its own process may do all, with again too"] = function()
  local v = fz.value("i", 1)
  v:with(function()
    v.value = 5
    v:add(1)
    v:with(function() v:add(1) end)
    t.equal(v.value, 7)
    pcall(v.with, v, error)
    v:add(1)
  end)
  t.equal(v.value, 8)
end

-- Whether another process can write v.
local function is_free(v)
  local p <close> = fz.process(function() v:add(0) end):start()
  local done = p:join(0.3) ~= nil
  p:kill()
  p:join()
  return done
end

tests["the lock is free again however f ends"] = function()
  local v = fz.value("i")
  local function overflow() return 1 + overflow() end
  local ways = {
    error,
    function() error {} end,
    overflow,
    function() v.value = "no" end,
    function() v:with(error) end,
    function() return table.unpack({}, 1, 1e7) end,
  }
  for _, f in ipairs(ways) do assert(not pcall(v.with, v, f)) end
  t.until_true(function() return is_free(v) end)
  local co = coroutine.create(function() v:with(coroutine.yield) end)
  assert(coroutine.resume(co))
  assert(not is_free(v))
  assert(coroutine.close(co))
  t.until_true(function() return is_free(v) end)
  co = coroutine.create(function() return v:with(coroutine.yield) end)
  assert(coroutine.resume(co))
  t.equal({ coroutine.resume(co, 1, 2) }, { true, 1, 2 })
  t.until_true(function() return is_free(v) end)
  co = coroutine.create(function() v:with(coroutine.yield) end)
  assert(coroutine.resume(co))
  co = nil -- luacheck: ignore
  collectgarbage()
  t.until_true(function() return is_free(v) end)
end

tests["with is one step for the other processes"] = function()
  local v, inside = fz.value("j"), fz.value("b")
  local function work()
    for _ = 1, 2000 do
      v:with(function()
        assert(inside.value == 0, "two are inside")
        inside.value = 1
        local x = v.value
        if x % 16 == 0 then os.execute ":" end
        v.value = x + 1
        inside.value = 0
      end)
    end
  end
  local list = { fz.process(work):start(), fz.process(work):start() }
  for _, p in ipairs(list) do
    p:result(50)
    p:join()
  end
  t.equal(v.value, 4000)
end

tests["a write waits while another process is inside, a read does not"] = function()
  local v, entered, read = fz.value("i", 1), fz.value("b"), fz.event()
  local p <close> = fz.process(function()
    v:with(function()
      entered.value = 1
      read:wait()
      os.execute "sleep 0.2"
      v.value = 10
    end)
  end):start()
  t.until_true(function() return entered.value == 1 end)
  local before = v.value
  t.equal(before, 1)
  read:set()
  v.value = before + 1
  t.equal(v.value, 2)
  p:join()
  t.equal(v:add(1), 3)
end

tests["a process that dies inside nested with blocks no other"] = function()
  local v = fz.value("i", 1)
  for _ = 1, 3 do
    local p <close> = fz.process(function()
      v:with(function() v:with(function()
        v:add(1)
        kill_self()
      end) end)
    end):start()
    p:join()
    t.equal(p.exitcode, -9)
    v:add(1)
    v:with(function() v.value = v.value + 1 end)
    t.until_true(function() return is_free(v) end)
  end
  t.equal(v.value, 10)
end

tests["a process that dies inside with releases its waiters"] = function()
  local v, entered = fz.value("i"), fz.value("b")
  local list = {}
  local p <close> = fz.process(function()
    v:with(function()
      entered.value = 1
      os.execute "sleep 60"
    end)
  end):start()
  t.until_true(function() return entered.value == 1 end)
  for i = 1, 3 do list[i] = fz.process(function() return v:add(1) end):start() end
  t.until_asleep(list)
  p:kill()
  for _, w in ipairs(list) do t.equal(w:join(10), true) end
  p:join()
  t.equal(v.value, 3)
end

tests["it crosses as an argument, a result, an upvalue, and in tables"] = function()
  local pool <close> = fz.pool(2)
  t.equal(pool:apply(function() return 1 end), 1) -- starts the workers before v is made
  local v = fz.value("l", 1)
  t.equal(pool:apply(function(w) return w:add(1) end, v), 2)
  t.equal(pool:apply(function(r) return r.list[1]:add(1), r.list[1] == r.same end,
    { list = { v }, same = v }), 3)
  t.equal(pool:apply(function() return v:add(1) end), 4)
  local w = pool:apply(function() return fz.value("d", 1.5) end)
  t.equal(w:add(1), 2.5)
  local back = pool:apply(function(x) return x end, v)
  assert(back == v and not rawequal(back, v))
  t.equal(back.value, 4)
  pool:map(function(i) v:add(i) end, t.numbers(100))
  t.equal(v.value, 5054)
end

tests["it works in this process alone"] = function()
  local _ <close> = t.in_this_process()
  local v = fz.value("i", 1)
  fz.map(function(i) v:add(i) end, { 1, 2, 3 })
  t.equal(v.value, 7)
end

tests["a wait for a value serves the results of workers"] = function()
  local v, entered = fz.value("i"), fz.value("b")
  local pool <close> = fz.pool(1)
  local told
  local p <close> = fz.process(function()
    v:with(function()
      entered.value = 1
      t.until_true(function() return entered.value == 2 end)
    end)
  end):start()
  t.until_true(function() return entered.value == 1 end)
  pool:apply_async(function() return 1 end, {}, { callback = function(x)
    told = x
    entered.value = 2
  end })
  t.equal(v:add(1), 1)
  t.equal(told, 1)
  p:join()
end

return tests
