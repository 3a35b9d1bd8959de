--- shared.lua - the rows of channels and shared state, for run.lua.

local fz = require "fzlua"
local limits = require "limits"

local ITEMS <const>, TRIPS <const>, CALLS <const> = 200000, 2000, 1000000
local BIG <const>, REQUESTS <const> = 100000000, 2000

local function constant(value)
  return function() return value end
end

---@param timed fun(f: function, ...): number, any
---@param expect fun(what: string, got: any, wanted: any)
return function(timed, expect)
  -- The time of one operation. f(n) makes n of them in a loop, whose time is included.
  local function per_call(f, limit_s)
    f(1000)
    return function() return (timed(f, CALLS)) / CALLS end, constant(limit_s)
  end

  -- The producer has started before the measurement, and waits for the event.
  local function queue()
    local go, items = fz.event(), fz.queue()
    local function fzlua()
      go:clear()
      local _ <close> = fz.process(function()
        go:wait()
        for i = 1, ITEMS do items:put(i) end
      end):start()
      local function take()
        local sum = 0
        go:set()
        for _ = 1, ITEMS do sum = sum + items:get() end
        return sum
      end
      local seconds, sum = timed(take)
      expect("sum", sum, ITEMS * (ITEMS + 1) // 2)
      return seconds / ITEMS
    end
    return fzlua, constant(1e-6)
  end

  -- New processes for every sample on both sides, as for the row roundtrip.
  local function queue_roundtrip()
    local function fzlua()
      local there, back = fz.queue(), fz.queue()
      local p <close> = fz.process(function()
        for _ = 1, 2 * TRIPS do back:put(there:get()) end
      end):start()
      local function trips()
        local sum = 0
        for i = 1, TRIPS do
          there:put(i)
          sum = sum + back:get()
        end
        return sum
      end
      trips()
      local seconds, sum = timed(trips)
      expect("sum", sum, TRIPS * (TRIPS + 1) // 2)
      p:join()
      return seconds / TRIPS
    end
    return fzlua, function() return limits.pingpong(TRIPS) end
  end

  local function queue_roundtrip_1core()
    limits.pin()
    return queue_roundtrip()
  end

  local function lock()
    local l = fz.lock()
    return per_call(function(n)
      for _ = 1, n do
        l:acquire()
        l:release()
      end
    end, 110e-9)
  end

  local function add(v, n)
    for _ = 1, n do v:add(1) end
  end

  local function value_add()
    local v = fz.value("j", 0)
    return per_call(function(n) add(v, n) end, 150e-9)
  end

  -- Two processes add at the same time. A sample is the whole time divided by all additions.
  local function value_add_contended()
    local function fzlua()
      local v, gun = fz.value("j", 0), fz.barrier(3)
      local function run()
        gun:wait()
        add(v, CALLS)
        gun:wait()
      end
      local a <close> = fz.process(run):start()
      local b <close> = fz.process(run):start()
      gun:wait()
      local seconds = timed(function() gun:wait() end)
      expect("sum", v.value, 2 * CALLS)
      a:join()
      b:join()
      return seconds / (2 * CALLS)
    end
    return fzlua, constant(250e-9)
  end

  local function array_read()
    local a = fz.array("d", 1024)
    return per_call(function(n)
      local sum = 0
      for i = 1, n do sum = sum + a[(i & 1023) + 1] end
      return sum
    end, 60e-9)
  end

  local function array_write()
    local a = fz.array("d", 1024)
    return per_call(function(n)
      for i = 1, n do a[(i & 1023) + 1] = i end
    end, 60e-9)
  end

  local function pipe_100M()
    local a, b = fz.pipe()
    local p = fz.process(function()
      local big = ("x"):rep(BIG)
      while b:recv() do b:send(big) end
    end):start()
    local big = ("x"):rep(BIG)
    local function fzlua()
      a:send(true)
      local seconds, s = timed(function()
        return (a:recv())
      end)
      expect("length", #s, BIG)
      return seconds
    end
    fzlua()
    return fzlua, function()
      assert(p:is_alive())
      return limits.push(big)
    end
  end

  local function manager(request)
    return function()
      local m = fz.manager()
      local d = m:dict { key = 1 }
      local function requests()
        for i = 1, REQUESTS do request(d, i) end
      end
      requests()
      local function fzlua()
        local seconds = timed(requests)
        expect("manager", m ~= nil, true) -- as an upvalue, the manager stays alive
        return seconds / REQUESTS
      end
      return fzlua, constant(25e-6)
    end
  end

  return {
    { name = "queue", unit = "us/item", samples = 11, against = "1 us", target = 1,
      peers = true, measure = queue },
    { name = "queue_roundtrip", unit = "us", samples = 21, against = "two-pipe ping-pong",
      target = 2, peers = true, measure = queue_roundtrip },
    { name = "queue_roundtrip_1core", unit = "us", samples = 21,
      against = "two-pipe ping-pong", target = 2, measure = queue_roundtrip_1core },
    { name = "lock", unit = "ns", samples = 15, against = "110 ns", target = 1,
      peers = true, measure = lock },
    { name = "value_add", unit = "ns", samples = 15, against = "150 ns", target = 1,
      peers = true, measure = value_add },
    { name = "value_add_contended", unit = "ns", samples = 11, against = "250 ns", target = 1,
      peers = true, measure = value_add_contended },
    { name = "array_read", unit = "ns", samples = 15, against = "60 ns", target = 1,
      peers = true, measure = array_read },
    { name = "array_write", unit = "ns", samples = 15, against = "60 ns", target = 1,
      peers = true, measure = array_write },
    { name = "pipe_100M", unit = "ms", samples = 9, against = "lua_pushlstring", target = 2,
      peers = true, measure = pipe_100M },
    { name = "manager_get", unit = "us", samples = 11, against = "25 us", target = 1,
      peers = true, measure = manager(function(d) return d.key end) },
    { name = "manager_set", unit = "us", samples = 11, against = "25 us", target = 1,
      peers = true, measure = manager(function(d, i) d.key = i end) },
  }
end
