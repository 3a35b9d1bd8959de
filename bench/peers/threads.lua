-- The pool's rows for the Lua libraries of threads: effil.lua and lanes.lua say how a pool of two
-- is made of theirs, and this measures it. Prints `row<TAB>value<TAB>unit`.
--
-- Plain Lua has no clock but that of the kernel's /proc/uptime, in hundredths of a second: each
-- sample is long enough for it.

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

-- The shared hundred, from 10^10 to 10^12.
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

-- start(f) -> pool of two threads that run f on what pool.send(x) gives them and answer to
-- pool.receive(); pool.stop() ends and joins them.
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

---Measure the rows of these names, all for none.
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
