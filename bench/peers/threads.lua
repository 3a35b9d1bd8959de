-- The pool's rows for Lua libraries with threads: effil.lua and lanes.lua make a pool of two
-- threads, and this file measures it. Prints `row<TAB>value<TAB>unit`.
--
-- The clock is /proc/uptime, because plain Lua has none for real time. It counts hundredths of a
-- second, so each sample is long.

local threads = {}

local SAMPLE_S, SAMPLES = 0.5, 3 -- no <const>: effil runs in Lua 5.3

local function clock()
  local file = assert(io.open "/proc/uptime")
  local seconds = file:read("n")
  file:close()
  return seconds
end

local function echo(x) return x end

local function sum_of_factors(n)
  local sum, divisor = 0, 2
  while divisor * divisor <= n do
    while n % divisor == 0 do
      sum = sum + divisor
      n = n // divisor
    end
    divisor = divisor + (divisor == 2 and 1 or 2)
  end
  return n > 1 and sum + n or sum
end

-- The hundred numbers, from 10^10 to 10^12, that each peer factors.
local function numbers()
  local x, list = 7, {}
  local function below(n)
    x = (1664525 * x + 1013904223) & 0xffffffff
    return x * n >> 32
  end
  for i = 1, 100 do
    local high, low = below(1 << 31), below(1 << 31)
    list[i] = 10000000000 + (high * (1 << 31) + low) % 990000000001
  end
  return list
end

-- Sends all of the list and returns the sum of what comes back, in any order.
local function sum_of_results(pool, list)
  for _, x in ipairs(list) do pool.send(x) end
  local sum = 0
  for _ = 1, #list do sum = sum + pool.receive() end
  return sum
end

-- Seconds per call of f: the median of samples of at least SAMPLE_S each.
local function seconds_of(f)
  local samples = {}
  for i = 1, SAMPLES do
    collectgarbage()
    local calls, started = 0, clock()
    local elapsed
    repeat
      f()
      calls, elapsed = calls + 1, clock() - started
    until elapsed >= SAMPLE_S
    samples[i] = elapsed / calls
  end
  table.sort(samples)
  return samples[(SAMPLES + 1) // 2]
end

-- start(f) -> a pool of two threads that call f(x) for each pool.send(x). pool.receive() returns
-- the next result, and pool.stop() ends and joins the threads.
local rows = {
  {"pool_start", "ms", 1e3, function(start)
    return function()
      local pool = start(echo)
      pool.send(1)
      pool.receive()
      pool.stop()
    end
  end},
  {"pool_apply", "us", 1e6 / 500, function(start)
    local pool = start(echo)
    return function()
      for i = 1, 500 do
        pool.send(i)
        pool.receive()
      end
    end, pool.stop
  end},
  {"pool_jobs", "us/job", 1e6 / 10000, function(start)
    local pool, list = start(echo), {}
    for i = 1, 10000 do list[i] = i end
    return function() assert(sum_of_results(pool, list) == 50005000) end, pool.stop
  end},
  {"pool_factor_once", "ms", 1e3, function(start)
    local pool, list = start(sum_of_factors), numbers()
    return function() assert(sum_of_results(pool, list) == 1461938895871) end, pool.stop
  end},
}

---Measure the rows of these names; all rows if there are none.
---@param start fun(f: function): table
---@param names string[]
function threads.run(start, names)
  io.stdout:setvbuf "line"
  local wanted = {}
  for _, name in ipairs(names) do wanted[name] = true end
  for _, row in ipairs(rows) do
    local name, unit, per_second, prepare = row[1], row[2], row[3], row[4]
    if #names == 0 or wanted[name] then
      local f, stop = prepare(start)
      f()
      print(("%s\t%.4g\t%s"):format(name, seconds_of(f) * per_second, unit))
      if stop then stop() end
    end
  end
end

return threads
