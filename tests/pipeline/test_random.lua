-- test_random.lua - random dags give the same values however many workers run them.

local t = ...
local fz = require "fzlua"

local DAGS = tonumber(os.getenv "FZLUA_DAGS") or t.rounds(200)

-- A generator for the test itself. The functions of the dags use math.random.
local function generator(seed)
  local x = seed
  return function(n)
    x = (1664525 * x + 1013904223) & 0xffffffff
    return (x * n) >> 32
  end
end

-- A text for any value that shows its types, bits, order and shared tables.
local function dump(value, seen)
  seen = seen or { n = 0 }
  local kind = math.type(value) or type(value)
  if kind == "float" then
    return ("float:%x"):format((string.unpack("<i8", string.pack("<d", value))))
  end
  if kind == "string" then return ("%q"):format(value) end
  if kind ~= "table" then return kind .. ":" .. tostring(value) end
  if seen[value] then return "#" .. seen[value] end
  seen.n = seen.n + 1
  seen[value] = seen.n
  local keys, parts = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if type(a) ~= type(b) then return type(a) < type(b) end
    return a < b
  end)
  for i, key in ipairs(keys) do
    parts[i] = ("[%s]=%s"):format(dump(key), dump(value[key], seen))
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- Functions for the nodes: together they return values of all kinds, also random ones.
local MAKERS = {
  function(...) return { n = select("#", ...), ... } end,
  function(...) return #dump { ... } end,
  function(...) return (dump { ... }):sub(1, 300) end,
  function() return math.random() end,
  function() return math.random(1 << 40) end,
  function(a) return a end,
  function() return nil end,
  function(...) return select("#", ...) > 1 end,
  function() return 0 / 0 end,
  function() return -0.0 end,
  function() return { math.huge, -math.huge, 1 << 63, 0.1, "\0\255", false } end,
  function(a)
    local shared = { math.random(10) }
    shared.again = shared
    return { shared, shared, first = (dump(a)):sub(1, 100) }
  end,
  function() return ("x"):rep(math.random(100000)) end,
  function(...)
    local list = {}
    for i = 1, math.random(200) do list[i] = i % 3 == 0 and i / 2 or i end
    list.of = select("#", ...)
    return list
  end,
}

local function random_dag(seed)
  local below, g = generator(seed), fz.dag()
  local n = 5 + below(196)
  for i = 1, n do
    local inputs, seen = {}, {}
    for _ = 1, below(4) do
      local j = below(i)
      local name = j == 0 and "input" or "n" .. j
      if not seen[name] then
        seen[name] = true
        inputs[#inputs + 1] = name
      end
    end
    g:add("n" .. i, inputs, MAKERS[1 + below(#MAKERS)])
  end
  return g, n
end

local function outputs(g, n, jobs, seed)
  g:invoke({ input = { seed, "input" } }, { jobs = jobs, seed = seed })
  local parts = {}
  for i = 1, n do parts[i] = dump(g.output["n" .. i]) end
  return table.concat(parts, "\n")
end

local tests = {}

tests["random dags give the same bytes at jobs = 0, 1, 2 and 8"] = function()
  for seed = 1, DAGS do
    local g, n = random_dag(seed)
    local expected = outputs(g, n, 0, seed)
    for _, jobs in ipairs { 1, 2, 8 } do
      if outputs(g, n, jobs, seed) ~= expected then
        error(("dag %d differs at jobs = %d"):format(seed, jobs))
      end
    end
    g:close()
  end
end

tests["the same seed gives the same values, another one others"] = function()
  local g, n = random_dag(3)
  t.equal(outputs(g, n, 2, 7) == outputs(g, n, 2, 7), true)
  t.equal(outputs(g, n, 2, 7) == outputs(g, n, 2, 8), false)
  g:close()
end

return tests
