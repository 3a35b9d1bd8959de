--- pool.lua - the rows of the pool, for run.lua.

local fz = require "fzlua"
local limits = require "limits"

local JOBS <const>, SQUARES <const>, PAIRS <const> = 10000, 100000, 1000000
local MILLION <const>, LINES <const> = 1000000, 200000

local function echo(x) return x end
local function square(x) return x * x end
local function square_of_sum(x, y) return (x + y) ^ 2 end

local function constant(value)
  return function() return value end
end

local function first(n, make)
  local list = {}
  for i = 1, n do list[i] = make(i) end
  return list
end

-- The hundred numbers, from 10^10 to 10^12, that each peer factors, too.
local function numbers()
  local x = 7
  local function below(n)
    x = (1664525 * x + 1013904223) & 0xffffffff
    return x * n >> 32
  end
  return first(100, function()
    local high, low = below(1 << 31), below(1 << 31)
    return 10000000000 + (high * (1 << 31) + low) % 990000000001
  end)
end

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

local function sum_of(list)
  local sum = 0
  for i = 1, #list do sum = sum + list[i] end
  return sum
end

-- A pool whose workers have started and have seen f.
local function warm(f, ...)
  local pool = fz.pool(2)
  pool:starmap(f, first(1000, constant({ ... })))
  return pool
end

---@param command string the command under test
---@param here string the folder of the scripts, with its slash
---@param timed fun(f: function, ...): number, any
---@param expect fun(what: string, got: any, wanted: any)
return function(command, here, timed, expect)
  local function start()
    local pool
    local function first_result()
      pool = fz.pool(2)
      return pool:apply(echo, 1)
    end
    local function fzlua()
      local seconds, result = timed(first_result)
      expect("result", result, 1)
      pool:terminate()
      return seconds
    end
    return fzlua, constant(1e-3)
  end

  -- New processes for every sample on both sides, as for the row roundtrip.
  local function apply()
    local n = 2000
    local function fzlua()
      local pool = fz.pool(2)
      local function calls()
        local sum = 0
        for i = 1, n do sum = sum + pool:apply(echo, i) end
        return sum
      end
      calls()
      local seconds, sum = timed(calls)
      expect("sum", sum, n * (n + 1) // 2)
      pool:terminate()
      return seconds / n
    end
    return fzlua, function() return limits.pingpong(n) end
  end

  local function apply_1core()
    limits.pin()
    return apply()
  end

  -- A call whose function has an upvalue to compare, or must be sent first, beside a plain call.
  local function apply_of(make)
    return function()
      local n, pool = 2000, warm(echo, 1)
      local function side(each)
        each(0)
        return function()
          local seconds = timed(function() for i = 1, n do each(i) end end)
          return seconds / n
        end
      end
      return side(make(pool)), side(function(i) expect("result", pool:apply(echo, i), i) end)
    end
  end

  local apply_list = apply_of(function(pool)
    local list = first(1000, echo)
    local function last(i) return list[1000] + i end
    return function(i) expect("result", pool:apply(last, i), 1000 + i) end
  end)

  local apply_new = apply_of(function(pool)
    return function(i) expect("result", pool:apply(function() return i end), i) end
  end)

  local function trivial(options, limit_s)
    return function()
      local list, pool = first(JOBS, echo), warm(echo, 1)
      local function fzlua()
        local seconds, results = timed(pool.map, pool, echo, list, options)
        expect("sum", sum_of(results), JOBS * (JOBS + 1) // 2)
        return seconds / JOBS
      end
      return fzlua, constant(limit_s)
    end
  end

  local function against_serial(parallel, serial)
    local wanted = serial()
    local n, last = #wanted, wanted[#wanted]
    local function side(f)
      return function()
        local seconds, results = timed(f)
        expect("number of results", #results, n)
        expect("last result", results[n], last)
        return seconds
      end
    end
    return side(parallel), side(serial)
  end

  local function serial_squares(list)
    return function()
      local results = {}
      for i = 1, #list do results[i] = square(list[i]) end
      return results
    end
  end

  local function serial_starmap(pairs_of)
    return function()
      local results = {}
      for i = 1, #pairs_of do
        local pair = pairs_of[i]
        results[i] = square_of_sum(pair[1], pair[2])
      end
      return results
    end
  end

  local function squares()
    local list = first(SQUARES, echo)
    return against_serial(function() return fz.map(square, list, { jobs = 2 }) end,
      serial_squares(list))
  end

  local function progress()
    local list = first(MILLION, echo)
    limits.terminal()
    local function seconds(shown)
      return function()
        local time, results = timed(fz.map, square, list, { jobs = 2, progress = shown })
        expect("number of results", #results, MILLION)
        return time
      end
    end
    return seconds(true), seconds(false)
  end

  local function squares_stage()
    local list, stage = first(SQUARES, echo), fz.stage "squares"
    stage:map("results", "list", square)
    local chain = fz.chain { stage }
    return against_serial(function() return chain({ list = list }, { jobs = 2 }).results end,
      function() return fz.map(square, list, { jobs = 2 }) end)
  end

  local function squares_pool()
    local list, pool = first(SQUARES, echo), warm(square, 1)
    return against_serial(function() return pool:map(square, list) end, serial_squares(list))
  end

  local function starmap()
    local list = first(PAIRS, function(i) return { i, i + 1 } end)
    return against_serial(function() return fz.starmap(square_of_sum, list, { jobs = 2 }) end,
      serial_starmap(list))
  end

  local function starmap_pool()
    local list = first(PAIRS, function(i) return { i, i + 1 } end)
    local pool = warm(square_of_sum, 1, 2)
    return against_serial(function() return pool:starmap(square_of_sum, list) end,
      serial_starmap(list))
  end

  -- Factor the hundred numbers `times` times; a sample is the time for one hundred. If they are
  -- factored once, the end matters most: one worker is idle while the other has its last number.
  local function factor(times)
    return function()
      local hundred, list, pool = numbers(), {}, warm(sum_of_factors, 2)
      for _ = 1, times do table.move(hundred, 1, #hundred, #list + 1, list) end
      local function fzlua()
        local seconds, sums = timed(pool.map, pool, sum_of_factors, list)
        expect("sum of factors", sum_of(sums), times * 1461938895871)
        return seconds / times
      end
      local function serial()
        for i = 1, #list do sum_of_factors(list[i]) end
      end
      return fzlua, function() return limits.beside(serial, 2) / 2 / times end
    end
  end

  -- 1 M strings as results: the list of results grows while they arrive.
  local function strings(of)
    local list = first(MILLION, function(i) return i end)
    local function name(x) return "result " .. x end
    local map = of and warm(name, 1)
    local function fzlua()
      local seconds, names
      if map then
        seconds, names = timed(map.map, map, name, list)
      else
        seconds, names = timed(fz.map, name, list, { jobs = 2 })
      end
      expect("last result", names[MILLION], "result 1000000")
      return seconds
    end
    local function serial()
      local seconds = timed(function()
        local names = {}
        for i = 1, #list do names[i] = name(list[i]) end
        return names
      end)
      return seconds
    end
    return fzlua, serial
  end

  -- The hour and the status of each line of a log.
  local function line_by_line(method)
    local lines = first(LINES, function(i)
      return ('10.0.0.%d - - [01/Jan/2024:%02d:00:00 +0000] "GET /%d HTTP/1.1" %d 512'):format(
        i % 250, i % 24, i, i % 5 == 0 and 404 or 200)
    end)
    local function hour(line)
      local h, status = line:match '%[[^:]+:(%d%d):[^%]]*%] "[^"]*" (%d%d%d)'
      return h .. " " .. status
    end
    local pool = warm(hour, lines[1])
    local function lazy()
      local i, n = 0, 0
      local function source()
        i = i + 1
        return lines[i]
      end
      for _ in pool[method](pool, hour, source) do n = n + 1 end
      return n
    end
    local function fzlua()
      local seconds, n = timed(lazy)
      expect("number of results", n, LINES)
      return seconds / LINES
    end
    local function map()
      return timed(pool.map, pool, hour, lines) / LINES
    end
    return fzlua, map
  end

  -- One imap has both sides: its last JOBS jobs, and its second JOBS jobs. The first ones are left
  -- out because they include the start of the imap.
  local function millionth()
    local pool = warm(echo, 1)
    local early
    local function fzlua()
      local at, n, given = {}, 0, 0
      local function source()
        given = given + 1
        if given <= MILLION then return given end
      end
      for i in pool:imap(echo, source, { inflight = 256 }) do
        n = n + 1
        if i % JOBS == 0 then at[i // JOBS] = fz.now() end
      end
      expect("number of results", n, MILLION)
      local last = MILLION // JOBS
      early = (at[2] - at[1]) / JOBS
      return (at[last] - at[last - 1]) / JOBS
    end
    return fzlua, function() return early end
  end

  -- The bytes that memory.lua prints. It runs in a process of its own, with a new heap.
  local function memory(which, limit)
    local script = ("'%s' '%smemory.lua' %s"):format(command, here, which)
    local function fzlua()
      local pipe <close> = assert(io.popen(script))
      return assert(pipe:read("n"), "memory.lua failed")
    end
    return function() return fzlua, constant(limit) end
  end

  return {
    { name = "pool_start", unit = "ms", samples = 101, against = "1 ms", target = 1,
      peers = true, measure = start },
    { name = "pool_apply", unit = "us", samples = 21, against = "two-pipe ping-pong",
      target = 2, peers = true, measure = apply },
    { name = "pool_apply_1core", unit = "us", samples = 21, against = "two-pipe ping-pong",
      target = 2, measure = apply_1core },
    { name = "pool_apply_list", unit = "us", samples = 21, against = "without an upvalue",
      target = 2, measure = apply_list },
    { name = "pool_apply_new", unit = "us", samples = 21, against = "without an upvalue",
      target = 4, measure = apply_new },
    { name = "pool_jobs", unit = "us/job", samples = 31, against = "1.5 us", target = 1,
      peers = true, measure = trivial({ chunksize = 1 }, 1.5e-6) },
    { name = "pool_batched", unit = "us/job", samples = 51, against = "0.4 us", target = 1,
      peers = true, measure = trivial(nil, 0.4e-6) },
    { name = "pool_factor", unit = "ms", samples = 7, against = "two serial runs at once",
      target = 1 / 0.95, measure = factor(10) },
    { name = "pool_factor_once", unit = "ms", samples = 21, against = "two serial runs at once",
      peers = true, measure = factor(1) },
    { name = "map_strings", unit = "ms", samples = 3, against = "a serial loop", target = 1.5,
      measure = function() return strings(false) end },
    { name = "map_strings_pool", unit = "ms", samples = 3, against = "a serial loop",
      target = 1.5, measure = function() return strings(true) end },
    { name = "imap_lines", unit = "us", samples = 11, against = "pool:map", target = 2,
      measure = function() return line_by_line "imap" end },
    { name = "imap_lines_unordered", unit = "us", samples = 11, against = "pool:map",
      target = 2, measure = function() return line_by_line "imap_unordered" end },
    { name = "pool_millionth", unit = "us/job", samples = 7, against = "the ten-thousandth",
      target = 1.2, measure = millionth },
    { name = "pool_memory", unit = "KiB", samples = 5, against = "400 KiB", target = 1,
      peers = true, measure = memory("worker", 400 << 10) },
    { name = "pool_memory_list", unit = "MiB", samples = 5, against = "40 MB", target = 1,
      measure = memory("list", 40000000) },
    { name = "map_squares", unit = "ms", samples = 31, against = "serial loop", target = 1,
      peers = true, measure = squares },
    { name = "progress_map", unit = "ms", samples = 51, against = "without progress",
      target = 1.01, measure = progress },
    { name = "map_squares_pool", unit = "ms", samples = 31, against = "serial loop",
      measure = squares_pool },
    { name = "map_squares_stage", unit = "ms", samples = 51, against = "fz.map", target = 1.5,
      measure = squares_stage },
    { name = "map_starmap", unit = "ms", samples = 31, against = "serial loop", target = 1,
      peers = true, measure = starmap },
    { name = "map_starmap_pool", unit = "ms", samples = 15, against = "serial loop",
      measure = starmap_pool },
  }
end
