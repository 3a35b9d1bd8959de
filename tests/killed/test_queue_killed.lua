-- Queues and pipes whose users are killed at any time (test_queue_killed.c: at any instruction).

local t = ...

local ROUNDS = os.getenv "FZLUA_LONG" and 2000 or 60

local start = t.start

local function nap(seconds)
  fz.queue():get(seconds)
end

-- Sleep for a random time, which often ends during the first puts and gets of another process.
local function soon()
  nap(math.random() ^ 3 * 0.004)
end

return {
  ["a producer that is killed loses at most one item"] = function()
    local q = fz.queue()
    local next_of = {}
    for round = 1, ROUNDS do
      local p = start(function()
        for i = 1, 1 << 40 do
          q:put(i % 50 == 0 and { round, i, ("x"):rep(50000) } or { round, i })
        end
      end)
      soon()
      p:kill()
      p:join()
      while true do
        local there, item = q:try_get()
        if not there then break end
        t.equal(item[2], (next_of[item[1]] or 0) + 1)
        if item[3] then t.equal(item[3] == ("x"):rep(50000), true) end
        next_of[item[1]] = item[2]
      end
      q:put { -round, 1 }
      t.equal(q:get(20), { -round, 1 })
    end
  end,

  ["a consumer that is killed loses at most one item"] = function()
    local q, seen = fz.queue(), fz.queue()
    local n = 0
    for _ = 1, ROUNDS do
      for _ = 1, 100 do
        n = n + 1
        q:put(n)
      end
      local p = start(function() while true do seen:put(q:get()) end end)
      soon()
      p:kill()
      p:join()
    end
    local missing, last = 0, 0
    local function check(i)
      assert(i > last) -- items are in order, and no item comes twice
      missing, last = missing + i - last - 1, i
    end
    while not seen:empty() do check(seen:get()) end
    while not q:empty() do check(q:get()) end
    t.equal(last == n or last == n - 1, true)
    assert(missing <= ROUNDS, missing)
  end,

  ["processes go on while others are killed"] = function()
    local q = fz.queue(8)
    local steady = {}
    for w = 1, 2 do
      steady[w] = start(function()
        local last = 0
        for i = 1, 1 << 40 do
          q:put(i)
          local there, v = q:try_get()
          if there then last = v end
          if last < 0 then break end
        end
      end)
    end
    for _ = 1, ROUNDS do
      local p = start(function() while true do q:put(q:get() or 0) end end)
      soon()
      p:kill()
      p:join()
    end
    local before = q:size()
    assert(before <= 8)
    for _ = 1, 100 do -- the two other processes still put and get
      t.equal(select(2, q:get(20)), nil)
    end
    for _, p in ipairs(steady) do
      p:kill()
      p:join()
    end
  end,

  ["a waiter is woken although another waiter is killed"] = function()
    local q, done = fz.queue(), fz.queue()
    local ps = {}
    for i = 1, 4 do
      ps[i] = start(function() done:put(q:get()) end)
    end
    nap(0.1)
    for i = 1, 2 do
      q:put(i)
      ps[i]:kill() -- this process may be the one that the item has woken
      ps[i]:join()
    end
    for i = 3, 6 do q:put(i) end
    t.until_true(function() return done:size() + q:size() >= 4 end)
    for i = 3, 4 do
      t.equal(ps[i]:join(20), true)
    end
  end,

  ["join does not wait for what a killed process had"] = function()
    local q, took = fz.queue(), fz.queue()
    for i = 1, 3 do q:put(i) end
    local p = start(function()
      took:put(q:get() + q:get())
      nap(60)
    end)
    t.equal(took:get(20), 3)
    t.equal(q:get(), 3)
    q:task_done()
    t.equal({ q:join(0.1) }, { nil, "timeout" })
    p:kill()
    t.equal(q:join(20), true)
    p:join()
  end,

  ["pipes whose other end is killed say so"] = function()
    for _ = 1, ROUNDS do
      local a, b = fz.pipe()
      local p = start(function()
        for i = 1, 1 << 40 do
          b:send(i)
          if b:poll() then b:recv() end
        end
      end)
      b:close()
      soon()
      p:kill()
      local last = 0
      for i in function() return a:recv(20) end do
        t.equal(i, last + 1)
        last = i
      end
      t.equal({ a:recv(20) }, { nil, "closed" })
      t.fails("closed", a.send, a, 1)
      p:join()
    end
  end,
}
