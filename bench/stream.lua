--- stream.lua - the rows of streams, for run.lua.

local fz = require "fzlua"
local worst_end = require "failures"

local ITEMS <const>, FRAMES <const>, CALLS <const> = 200000, 400, 1000
local MILLION <const> = 1000000
-- The times of the functions of the frames pipeline, in seconds.
local DETECT <const>, SIZE <const>, CLASSIFY <const>, JOIN <const> = 0.020, 0.005, 0.010, 0.001
local DETECTORS <const>, DESCRIBERS <const>, JOBS <const> = 4, 4, 16

local event = fz.event() -- is never set
local function sleep(seconds) event:wait(seconds) end

local function constant(value)
  return function() return value end
end

-- 1, 2, ... n
local function count_to(n)
  local i = 0
  return function()
    i = i + 1
    return i <= n and i or nil
  end
end

local function chain_of(...)
  local stages = {}
  for i, f in ipairs { ... } do
    stages[i] = fz.stage("stage" .. i)
    stages[i]:register("x", f)
  end
  return fz.chain(stages)
end

local function three_stages()
  return chain_of(function(x) return x + 1 end, function(x) return 2 * x end,
    function(x) return x - 1 end)
end

---@param command string the command under test
---@param here string folder of this file
---@param timed fun(f: function, ...): number, any
---@param expect fun(what: string, got: any, wanted: any)
return function(command, here, timed, expect)
  local function items()
    local chain = three_stages()
    local function all(n)
      local sum = 0
      for _, out in chain:stream(count_to(n), { inflight = 1024 }) do sum = sum + out.x end
      return sum
    end
    all(1000)
    local function fzlua()
      local seconds, sum = timed(all, ITEMS)
      expect("sum", sum, ITEMS * (ITEMS + 2))
      return seconds / ITEMS
    end
    return fzlua, constant(3e-6)
  end

  local function latency()
    local chain, pool = three_stages(), fz.pool(1)
    local function fzlua()
      local total, start = 0, nil
      local following = count_to(CALLS)
      for _ in chain:stream(function()
        start = fz.now()
        return following()
      end, { inflight = 1 }) do total = total + fz.now() - start end
      return total / CALLS
    end
    local function same(x) return x end
    local function one_call()
      return timed(function()
        for i = 1, CALLS do pool:apply(same, i) end
      end) / CALLS
    end
    return fzlua, one_call
  end

  -- `times(n)` is the factor for the times of frame n.
  local function frames_chain(times)
    local detector = fz.stage { name = "detector", workers = DETECTORS }
    local function detect(n)
      sleep(DETECT * times(n))
      return n
    end
    detector:register("boxes", { "n" }, detect)
    local describe = fz.stage { name = "describe", workers = DESCRIBERS }
    describe:register("size", { "boxes" }, function(n)
      sleep(SIZE * times(n))
      return n
    end)
    describe:register("class", { "boxes" }, function(n)
      sleep(CLASSIFY * times(n))
      return n
    end)
    local join = fz.stage { name = "join", workers = 1 }
    join:register("sum", { "size", "class" }, function(size, class)
      sleep(JOIN)
      return size + class
    end)
    local chain = detector >> describe >> join
    for _ in chain:stream(count_to(40), { jobs = JOBS, inflight = 64 }) do end
    return chain, detect
  end

  -- One sample of the detector alone, per frame.
  local function slowest_stage(detect)
    local pool, list = fz.pool(DETECTORS), {}
    for i = 1, FRAMES do list[i] = i end
    pool:map(detect, { 1, 1, 1, 1 })
    return function()
      return timed(function() pool:map(detect, list, { chunksize = 1 }) end) / FRAMES
    end
  end

  local function frames(times)
    local chain, detect = frames_chain(times)
    local function stream()
      local sum = 0
      for _, out in chain:stream(count_to(FRAMES), { jobs = JOBS, inflight = 64 }) do
        sum = sum + out.sum
      end
      return sum
    end
    local function fzlua()
      local seconds, sum = timed(stream)
      expect("sum", sum, FRAMES * (FRAMES + 1))
      return seconds / FRAMES
    end
    return fzlua, slowest_stage(detect)
  end

  -- The same frames without a stream: one invoke after the other.
  local function frames_invoked()
    local chain, detect = frames_chain(constant(1))
    local function fzlua()
      return timed(function()
        for n = 1, FRAMES // 10 do chain({ n = n }, { jobs = JOBS }) end
      end) / (FRAMES // 10)
    end
    return fzlua, slowest_stage(detect)
  end

  -- The largest factor is 10 times the smallest; the mean is 1.
  local function varied(n)
    return n * 7 % 10 < 5 and 2 / 11 or 20 / 11
  end

  -- The peak memory, in bytes, of a script that streams `n` items.
  local function peak(n)
    local pipe <close> = assert(io.popen(("'%s' '%smemory.lua' stream %d"):format(command, here,
      n)))
    return assert(pipe:read "n", "memory.lua failed")
  end

  local function memory()
    return function() return peak(MILLION * 10) end, function() return peak(MILLION) end
  end

  return {
    { name = "stream_items", unit = "us", samples = 11, against = "3 us", target = 1,
      peers = true, measure = items },
    { name = "stream_latency", unit = "us", samples = 21, against = "pool:apply", target = 4,
      measure = latency },
    { name = "stream_memory", unit = "MiB", samples = 1, against = "a million items",
      target = 1.1, measure = memory },
    { name = "stream_ends", unit = "ms", samples = 5, against = "1 s", target = 1,
      measure = function() return worst_end, constant(1) end },
    { name = "stream_frames", unit = "ms", samples = 5, against = "the slowest stage alone",
      target = 1 / 0.95, peers = true, measure = function() return frames(constant(1)) end },
    { name = "stream_frames_invoke", unit = "ms", samples = 3,
      against = "the slowest stage alone", measure = frames_invoked },
    { name = "stream_frames_varied", unit = "ms", samples = 5,
      against = "the slowest stage alone", target = 1 / 0.9,
      measure = function() return frames(varied) end },
  }
end
