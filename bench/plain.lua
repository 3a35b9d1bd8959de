--- plain.lua - plain Lua programs: `lua5.4 plain.lua NAME` runs one of them, for alloc.lua.

local programs = {}

local function fib(n)
  if n < 2 then return n end
  return fib(n - 1) + fib(n - 2)
end

function programs.fib() assert(fib(32) == 2178309) end

-- Position, velocity and mass of the sun and four planets.
local function planets()
  local sun, year = 4 * math.pi * math.pi, 365.24
  local function body(x, y, z, vx, vy, vz, mass)
    return { x, y, z, vx * year, vy * year, vz * year, mass * sun }
  end
  return {
    body(0, 0, 0, 0, 0, 0, 1),
    body(4.841431442464721, -1.1603200440274284, -0.10362204447112311, 0.001660076642744037,
      0.007699011184197404, -0.0000690460016972063, 0.0009547919384243266),
    body(8.34336671824458, 4.124798564124305, -0.4035234171143214, -0.002767425107268624,
      0.004998528012349172, 0.00002304172975737639, 0.0002858859806661308),
    body(12.89436956213913, -15.111151401698631, -0.22330757889265573, 0.002964601375647616,
      0.0023784717395948095, -0.000029658956854023756, 0.00004366244043351563),
    body(15.379697114850917, -25.919314609987964, 0.17925877295037118, 0.0026806777249038932,
      0.001628241700382423, -0.00009515922545197159, 0.00005151389020466115),
  }
end

local function attract(bodies, i, seconds)
  local p, sqrt = bodies[i], math.sqrt
  local x, y, z, mass = p[1], p[2], p[3], p[7]
  for j = i + 1, #bodies do
    local q = bodies[j]
    local dx, dy, dz = x - q[1], y - q[2], z - q[3]
    local square = dx * dx + dy * dy + dz * dz
    local pull = seconds / (sqrt(square) * square)
    local f, g = q[7] * pull, mass * pull
    p[4], p[5], p[6] = p[4] - dx * f, p[5] - dy * f, p[6] - dz * f
    q[4], q[5], q[6] = q[4] + dx * g, q[5] + dy * g, q[6] + dz * g
  end
end

function programs.nbody()
  local bodies = planets()
  for _ = 1, 200000 do
    for i = 1, #bodies do attract(bodies, i, 0.01) end
    for _, p in ipairs(bodies) do
      p[1], p[2], p[3] = p[1] + 0.01 * p[4], p[2] + 0.01 * p[5], p[3] + 0.01 * p[6]
    end
  end
end

function programs.spectral()
  local n = 300
  local function element(i, j)
    local ij = i + j - 1
    return 1 / (ij * (ij - 1) * 0.5 + i)
  end
  local function multiply(x, y, transposed)
    for i = 1, n do
      local sum = 0
      for j = 1, n do sum = sum + x[j] * (transposed and element(j, i) or element(i, j)) end
      y[i] = sum
    end
  end
  local u, v, t = {}, {}, {}
  for i = 1, n do u[i] = 1 end
  for _ = 1, 10 do
    multiply(u, t)
    multiply(t, v, true)
    multiply(v, t)
    multiply(t, u, true)
  end
end

function programs.sort()
  local list, x = {}, 42
  for i = 1, 500000 do
    x = x * 16807 % 2147483647
    list[i] = x
  end
  table.sort(list)
end

local function tree(depth)
  if depth == 0 then return {} end
  return { tree(depth - 1), tree(depth - 1) }
end

local function count(node)
  if not node[1] then return 1 end
  return 1 + count(node[1]) + count(node[2])
end

function programs.trees()
  local long, sum = tree(14), 0
  for depth = 4, 14, 2 do
    for _ = 1, 1 << (18 - depth) do sum = sum + count(tree(depth)) end
  end
  assert(count(long) == 32767 and sum > 0)
end

function programs.concat()
  local parts, bytes = {}, 0
  for i = 1, 300000 do parts[i] = "item " .. i end
  for word in table.concat(parts, ","):gmatch "[^,]+" do bytes = bytes + #word end
  assert(bytes == 3188895)
end

function programs.records()
  local list, sum = {}, 0
  for i = 1, 300000 do list[i] = { id = i, name = "n" .. i, tags = { i, i + 1 } } end
  for _, record in ipairs(list) do sum = sum + record.tags[2] end
  assert(sum == 45000450000)
end

programs[arg[1]]()
