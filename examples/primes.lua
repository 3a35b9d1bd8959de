-- primes.lua: a hundred large numbers, factored by four functions at a time.
--
--   fzlua examples/primes.lua                 as many at once as there are processors
--   fzlua -j0 examples/primes.lua seed=8      one after the other, other numbers
--
-- Shows functions that are registered in a loop, and that the result does not depend on the number
-- of functions that run at once.

local fz = require "fzlua"

local PARTS <const> = 4

-- Numbers between 10^10 and 10^12 from a linear congruential generator: the same on any machine.
local draw = fz.stage{name = "draw", pass_input = false}

local numbered = {} -- part1, part2, ...
for part = 1, PARTS do numbered[part] = "part" .. part end

draw:register(numbered, "seed", function(seed)
  local x = seed
  local function below(n)
    x = (1664525 * x + 1013904223) & 0xffffffff
    return x * n >> 32
  end
  local parts = {}
  for part = 1, PARTS do parts[part] = {} end
  for i = 1, 100 do
    local high, low = below(1 << 31), below(1 << 31)
    local part = parts[(i - 1) % PARTS + 1]
    part[#part + 1] = 10000000000 + (high * (1 << 31) + low) % 990000000001
  end
  return table.unpack(parts)
end)

-- The prime factors of n in ascending order, by trial division.
local function factors(n)
  local found, divisor = {}, 2
  while divisor * divisor <= n do
    while n % divisor == 0 do
      found[#found + 1] = divisor
      n = n // divisor
    end
    divisor = divisor + (divisor == 2 and 1 or 2)
  end
  if n > 1 then found[#found + 1] = n end
  return found
end

local factor = fz.stage{name = "factor", pass_input = false}

for part = 1, PARTS do
  factor:register("factored" .. part, "part" .. part, function(numbers)
    local factored = {}
    for i, n in ipairs(numbers) do factored[i] = {number = n, factors = factors(n)} end
    return factored
  end)
end

local report = fz.stage{name = "report", pass_input = false}

local factored = {}
for part = 1, PARTS do factored[part] = "factored" .. part end

report:register({"count", "primes", "smooth", "sum"}, factored, function(...)
  local count, sum, primes, smooth = 0, 0, {}, nil
  for _, part in ipairs{...} do
    for _, entry in ipairs(part) do
      local largest = entry.factors[#entry.factors]
      count = count + #entry.factors
      for _, factor_found in ipairs(entry.factors) do sum = sum + factor_found end
      if #entry.factors == 1 then primes[#primes + 1] = entry.number end
      if not smooth or largest < smooth.factors[#smooth.factors] then smooth = entry end
    end
  end
  table.sort(primes)
  return count, table.concat(primes, " "),
    ("%d = %s"):format(smooth.number, table.concat(smooth.factors, " * ")), sum
end)

local chain = draw >> factor >> report
chain.input = {seed = 7}
return chain
