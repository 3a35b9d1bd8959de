-- primes_map.lua: a hundred large numbers, factored in a loop, by a pool and by fz.map.
--
--   fzlua examples/primes_map.lua
--
-- Shows the two ways to run one function on a list: pool:map, whose workers stay for the next list,
-- and fz.map, which forks workers for one list. All three give the same. Their times differ from
-- run to run, and are written to standard error.

local fz = require "fzlua"

-- Numbers between 10^10 and 10^12 from a linear congruential generator: the same on any machine.
local function numbers(seed, count)
  local x, list = seed, {}
  local function below(n)
    x = (1664525 * x + 1013904223) & 0xffffffff
    return x * n >> 32
  end
  for i = 1, count do
    local high, low = below(1 << 31), below(1 << 31)
    list[i] = 10000000000 + (high * (1 << 31) + low) % 990000000001
  end
  return list
end

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

local function serial_map(f, list)
  local results = {}
  for i, value in ipairs(list) do results[i] = f(value) end
  return results
end

local hundred = numbers(7, 100)

-- One line per number, so that two results can be compared.
local function text(results)
  local lines = {}
  for i, n in ipairs(hundred) do
    lines[i] = ("%d = %s"):format(n, table.concat(results[i], " * "))
  end
  return table.concat(lines, "\n")
end

local pool <close> = fz.pool()
pool:map(math.abs, {1, 2, 3}) -- starts the workers, so that the time is that of the work only

local WAYS = {
  {"a loop", function() return serial_map(factors, hundred) end},
  {"pool:map", function() return pool:map(factors, hundred) end},
  {"fz.map", function() return fz.map(factors, hundred) end},
}

local expected, expected_seconds
for _, way in ipairs(WAYS) do
  local name, run = way[1], way[2]
  local started = fz.now()
  local results = run()
  local seconds = fz.now() - started
  if not expected then
    expected, expected_seconds = text(results), seconds
    local sum = 0
    for _, found in ipairs(results) do
      for _, factor in ipairs(found) do sum = sum + factor end
    end
    print("sum of all prime factors: " .. sum)
    print("the first: " .. expected:match("^[^\n]*"))
    print("the last:  " .. expected:match("[^\n]*$"))
  else
    print(("%s gives %s"):format(name, text(results) == expected and "the same"
      or "SOMETHING ELSE"))
  end
  io.stderr:write(("%-8s  %6.1f ms  %.2f times as fast as the loop\n"):format(name,
    seconds * 1000, expected_seconds / seconds))
end
