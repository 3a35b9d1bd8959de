-- Memory of workers beside a script with much data.
local t = ...
local tests = {}

local MB <const> = 1024 -- in KiB
-- A checker's own memory would count as well.
local CHECKED <const> = os.getenv "ASAN_OPTIONS" or os.getenv "FZLUA_VALGRIND"

-- What follows runs in a script of its own, whose heap is `data`: 100 MB.
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

-- The numbers that `code`, behind DATA, prints.
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

tests["garbage of a process is collected without a copy of the script's data"] = function()
  check_small(96 * MB, [[local p = fz.process(function()
      local list = {}
      for i = 1, 8 do list[i] = work(true) end
      return list
    end)
    p:start()
    print(table.concat(p:result(), " "))]])
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

return tests
