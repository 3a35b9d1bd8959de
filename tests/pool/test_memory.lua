-- Memory of workers beside a script with much data.
local t = ...
local tests = {}

local MB <const> = 1024 -- in KiB
-- Sanitizers and valgrind use memory of their own, which would be counted as well.
local CHECKED <const> = os.getenv "ASAN_OPTIONS" or os.getenv "FZLUA_VALGRIND"

-- The beginning of scripts that have a heap of 100 MB, in `data`.
local DATA <const> = [[
local data = {}
for i = 1, 250000 do data["key" .. i] = {name = "value" .. i, {i, {i}}, function() return i end} end
local function read()
  local n = 0
  for _, v in pairs(data) do n = n + v[1][2][1] + #v.name end
  return n
end
local function private()
  local n = 0
  for line in io.lines "/proc/self/smaps_rollup" do
    n = n + (tonumber(line:match "^Private_Dirty:%s+(%d+)") or 0)
  end
  return n
end
local function garbage()
  local keep = {}
  for i = 1, 200000 do keep[i % 10] = {("s"):rep(i % 50), function() return i end} end
  return #keep
end
local function work(garbage_too)
  read()
  if garbage_too then garbage() end
  return private()
end
]]

-- Run DATA followed by `code`. Returns the numbers that it prints.
local function numbers(code)
  local out, err, status = t.command("-e", DATA .. code)
  assert(status == 0, err)
  local list = {}
  for number in out:gmatch "%d+" do list[#list + 1] = tonumber(number) end
  assert(#list > 0, out)
  return list
end

local function check_small(limit, code)
  if CHECKED then return end
  local list = numbers(code)
  for i, kib in ipairs(list) do
    if kib >= limit then
      error(("%d KiB are private at measurement %d of %d"):format(kib, i, #list), 2)
    end
  end
end

tests["a worker that only reads what it inherited copies next to nothing"] = function()
  check_small(3 * MB, [[local pool <close> = fz.pool(2)
    for _ = 1, 4 do print(table.unpack(pool:map(work, {false, false, false, false}))) end]])
end

tests["garbage of a worker of a pool is collected without a copy of the script's data"] = function()
  check_small(48 * MB, [[local pool <close> = fz.pool(2)
    for _ = 1, 5 do print(table.unpack(pool:map(work, {true, true, true, true}))) end]])
end

tests["garbage of a stage's worker is collected without a copy of the script's data"] = function()
  check_small(48 * MB, [[local s = fz.stage "s"
    s:register("kib", "x", work)
    local chain = fz.chain {s}
    for _ = 1, 8 do print(chain({x = true}, {jobs = 1}).kib) end]])
end

-- Each round makes 41 MB of garbage. If a collection wrote to the script's data, the process would
-- have a private copy of them. `more` changes the moment at which the script itself collects.
tests["garbage of a process is collected without a copy of the script's data"] = function()
  if CHECKED then return end
  for more = 0, 400, 80 do
    local list = numbers(([[local more = ("x"):rep(1024 * %d)
      local p = fz.process(function()
        local list = {}
        for i = 1, 4 do list[i] = work(true) end
        return list
      end)
      p:start()
      print(table.concat(p:result(), " "))]]):format(more))
    for i, kib in ipairs(list) do
      assert(kib < (i <= 2 and 96 or 48) * MB, ("%d KiB at measurement %d"):format(kib, i))
    end
  end
end

tests["many short blocks beside holes in the script's heap are a worker's own"] = function()
  check_small(20 * MB, [[for i = 1, 250000, 2 do data["key" .. i] = nil end
    collectgarbage()
    local pool <close> = fz.pool(1)
    for _ = 1, 5 do
      print(pool:apply(function()
        local t = {}
        for i = 1, 20000 do t[i % 100] = {i, ("s"):rep(i % 30)} end
        return private()
      end))
    end]])
end

tests["a script in incremental mode stays in it when workers start"] = function()
  local out, err = t.command("-e", DATA .. [[collectgarbage "incremental"
    local pool <close> = fz.pool(1)
    print(pool:apply(function() return collectgarbage "incremental" end))
    print(collectgarbage "incremental")]])
  t.equal(out, "incremental\nincremental\n", err)
end

tests["objects that die while a worker starts are finalized once"] = function()
  local out, err = t.command("-e", DATA .. [[local n = 0
    for _ = 1, 1000 do setmetatable({}, {__gc = function() n = n + 1 end}) end
    local pool <close> = fz.pool(2)
    print(#pool:map(function(x) return x end, {1, 2, 3}))
    collectgarbage()
    print(n)]])
  t.equal(out, "3\n1000\n", err)
end

-- The beginning of scripts that have a block of 16 MB and little else.
local BLOCKS <const> = [[
local function field(pid, name)
  for line in io.lines(("/proc/%s/status"):format(pid)) do
    local kib = line:match("^" .. name .. ":%s+(%d+)")
    if kib then return tonumber(kib) end
  end
end
local block = ("x"):rep(16 << 20)
]]

local function numbers_of_blocks(code)
  local out, err, status = t.command("-e", BLOCKS .. code)
  assert(status == 0, err)
  local list = {}
  for number in out:gmatch "%d+" do list[#list + 1] = tonumber(number) end
  return list
end

tests["a receiver of big messages keeps the memory of few"] = function()
  if CHECKED then return end
  local most = numbers_of_blocks [[
    local a, b = fz.pipe()
    local p = fz.process(function()
      local n = 0
      for _ = 1, 60 do n = n + #b:recv() end
      return n, field("self", "VmHWM")
    end)
    p:start()
    for _ = 1, 60 do a:send(block) end
    local n, most = p:result()
    assert(n == 60 * #block)
    local s = fz.stage "s"
    s:register("n", "x", function(x) return #x end)
    s:register("most", "x", function() return field("self", "VmHWM") end)
    local chain <close> = fz.chain({s}, {jobs = 1})
    for _ = 1, 60 do assert(chain({x = block}).n == #block) end
    print(most, chain({x = block}).most)]]
  for i, kib in ipairs(most) do assert(kib < 400 * MB, ("%d: %d KiB"):format(i, kib)) end
end

tests["memory that was kept for big values goes back while nothing happens"] = function()
  if CHECKED then return end
  local kib = numbers_of_blocks [[
    local pool <close> = fz.pool(1)
    for _ = 1, 6 do assert(#pool:apply(function(s) return s .. "y" end, block) == #block + 1) end
    local worker, before = pool.workers[1], field("self", "VmRSS")
    collectgarbage()
    local queue, till = fz.queue(), fz.now() + 20
    local function rss() return field("self", "VmRSS"), field(worker, "VmRSS") end
    local mine, its
    repeat
      queue:get(0.1)
      mine, its = rss()
    until mine < 40 << 10 and its < 40 << 10 or fz.now() > till
    print(mine, its, before)]]
  assert(kib[1] < 40 * MB and kib[2] < 40 * MB, table.concat(kib, " "))
end

return tests
