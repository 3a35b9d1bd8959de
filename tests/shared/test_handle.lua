-- test_handle.lua - handles of shared objects: how they are sent, and when the object is freed.

local t = ...

local tests = {}

-- An object of each type.
local function one_of_each()
  return {
    fz.value("i", 1), fz.array("i", 3), fz.lock(), fz.rlock(), fz.semaphore(2), fz.event(),
    fz.queue(),
  }
end

-- The memory of the shared heap of this process, in bytes. The mapped file has no open descriptor,
-- and /proc may not allow to read it. Then this is only the memory that the process has touched.
local function shared_bytes()
  local pipe <close> = assert(io.popen(
    "for f in /proc/$PPID/map_files/*; do case $(readlink $f) in *fzlua-heap*) "
    .. "stat -Lc '%b %B' $f;; esac; done 2>/dev/null"))
  local blocks, size = pipe:read("a"):match "(%d+) (%d+)"
  if blocks then return blocks * size end
  local smaps <close> = assert(io.open "/proc/self/smaps")
  local rss = smaps:read("a"):match "fzlua%-commons[^\n]*\n.-\nRss: +(%d+) kB"
  return rss and rss * 1024 or 0
end

tests["a handle that comes back is equal to the one that was sent, and no other"] = function()
  local pool <close> = fz.pool(1)
  for _, h in ipairs(one_of_each()) do
    local a, b, same = pool:apply(function(x, list) return x, list, x == list[1] end, h, { h, h })
    assert(a == h and b[1] == h and same and rawequal(b[1], b[2]))
    assert(a ~= fz.value("i") and a ~= fz.lock() and not rawequal(a, h))
  end
end

tests["as a key, an upvalue, a result, through two pools and a queue"] = function()
  local v, q = fz.value("i", 5), fz.queue()
  local pool <close> = fz.pool(1)
  local list = pool:apply(function(keys)
    local k = next(keys)
    return { k, k, add = function(n) return v:add(n) + k.value end }
  end, { [v] = true })
  assert(list[1] == v and rawequal(list[1], list[2]))
  t.equal(list.add(1), 12)
  q:put { v, q }
  local back = q:get()
  assert(back[1] == v and back[2] == q)
  pool:apply(function(other)
    local inner <close> = fz.pool(1)
    inner:apply(function(x) x:add(10) end, other:get()[1])
  end, (function() q:put { v } return q end)())
  t.equal(v.value, 16)
end

tests["their text names the type"] = function()
  for i, name in ipairs { "Value", "Array", "Lock", "RLock", "Semaphore", "Event", "Queue" } do
    t.match(tostring(one_of_each()[i]):lower(), "fzlua." .. name:lower() .. ": 0x")
  end
end

tests["a handle cannot be packed"] = function()
  for _, h in ipairs(one_of_each()) do
    local e = t.fails("unsendable", fz.pack, { a = { h } })
    t.match(e.message, ".a[1]: a fzlua.", "which belongs to one run, cannot be sent")
    t.fails("unsendable", fz.pack, h)
    t.fails("unsendable", fz.pack, function() return h end)
  end
end

tests["the bytes of a handle are no value for fz.unpack, whatever is allowed"] = function()
  local v = fz.value("i", 7)
  local tag = fz.pack(io.stdout)
  local at
  for i = 1, #tag do -- one byte is the number of the standard file; 3 there means a handle
    local bytes = tag:sub(1, i - 1) .. "\3" .. tag:sub(i + 1) .. ("\0"):rep(32)
    for _, options in ipairs { {}, { functions = true } } do
      local ok, e = pcall(fz.unpack, bytes, options)
      if not ok and tostring(e):find("shared objects are not allowed", 1, true) then at = i end
      assert(ok == false or type(e) ~= "userdata" or io.type(e))
    end
  end
  assert(at, "no byte made it a handle")
  t.equal(v.value, 7)
end

tests["metamethods called by hand take handles alone"] = function()
  for _, h in ipairs(one_of_each()) do
    local mt = getmetatable(h)
    for _, wrong in ipairs { 1, io.stdout, {}, "x" } do
      assert(not pcall(mt.__gc, wrong))
      assert(not pcall(mt.__tostring, wrong))
      assert(not mt.__eq(h, wrong) and not mt.__eq(wrong, h))
    end
    assert(not pcall(mt.__gc) and not pcall(mt.__tostring))
    mt.__gc(h)
    mt.__gc(h)
    assert(h == h and h ~= fz.lock())
  end
end

tests["many that are dropped while a child may have them take no time each"] = function()
  local list = {} -- luacheck: ignore
  for i = 1, 30000 do list[i] = fz.event() end
  local p <close> = fz.process(function() fz.event():wait() end):start()
  local began = os.clock()
  list = nil -- luacheck: ignore
  collectgarbage()
  for _ = 1, 10000 do fz.event() end
  assert(os.clock() - began < 2, "quadratic")
  p:kill()
  p:join()
end

tests["a collected handle frees its object and memory"] = function()
  collectgarbage()
  for _ = 1, 12 do
    fz.array("d", 10 << 20):fill(1) -- 80 MB
    collectgarbage()
  end
  local bytes = shared_bytes()
  assert(bytes > 0 and bytes < 400 << 20, bytes)
end

tests["as long as a child lives that was forked since it is not"] = function()
  local a = fz.array("i", 100000)
  a[1] = 1
  local go = fz.event()
  local p <close> = fz.process(function()
    go:wait()
    local sum = 0
    for i = 1, #a do sum = sum + a[i] end
    return sum
  end):start()
  a = nil -- luacheck: ignore
  collectgarbage()
  local others = {}
  for i = 1, 20 do
    others[i] = fz.array("i", 100000)
    others[i]:fill(7)
  end
  go:set()
  t.equal(p:result(), 1)
  p:join()
end

tests["what a child makes never takes what its parent has dropped"] = function()
  local kept = fz.array("i", 100000)
  local go, again = fz.event(), fz.event()
  kept[1] = 42
  local p <close> = fz.process(function()
    go:wait()
    local x = kept[1]
    again:wait()
    return x, kept[1]
  end):start()
  kept = nil -- luacheck: ignore
  collectgarbage()
  local q <close> = fz.process(function()
    for _ = 1, 20 do fz.array("i", 100000):fill(9) end
  end):start()
  q:join()
  go:set()
  again:set()
  t.equal({ p:result() }, { 42, 42 })
  p:join()
end

tests["a second handle of the same thing keeps it"] = function()
  local pool <close> = fz.pool(1)
  local v = fz.value("i", 5)
  local again = pool:apply(function(x) return x end, v)
  v = nil -- luacheck: ignore
  collectgarbage()
  for i = 1, 600 do fz.value("i", i) end
  collectgarbage()
  t.equal(again.value, 5)
  local maker = pool:apply(function() return fz.value("i", 6) end)
  pool:terminate()
  for i = 1, 600 do fz.value("i", i) end
  t.equal(maker.value, 6)
end

tests["many short-lived makers do not use up memory"] = function()
  local before
  for i = 1, 40 do
    local p <close> = fz.process(function()
      fz.array("d", 1 << 20):fill(1) -- 8 MB
    end):start()
    p:join()
    if i == 1 then before = shared_bytes() end
    if i % 10 == 0 then
      os.execute "sleep 0.6"
      fz.value("i")
      fz.array("d", 1000)
    end
  end
  assert(shared_bytes() < before + (300 << 20))
end

-- The shared memory that `rounds` calls of f add. They follow 100 calls, after which the heap has
-- its usual size.
local function growth(rounds, f)
  for i = 1, 100 do f(i) end
  local before = shared_bytes()
  for i = 1, rounds do f(i) end
  return shared_bytes() - before
end

tests["a reply queue per request costs little: in a call of a pool"] = function()
  local pool <close> = fz.pool(1)
  local bytes = growth(10000, function(i)
    local reply = fz.queue()
    pool:apply(function(q, x) q:put { x, ("r"):rep(100) } end, reply, i)
    t.equal(reply:get(20)[1], i)
  end)
  assert(bytes < 10 << 20, bytes)
end

tests["a reply queue per request costs little: through a queue"] = function()
  local requests = fz.queue()
  local p <close> = fz.process(function()
    for request in function() return requests:get() end do
      request.reply:put(request.x + 1)
    end
  end):start()
  local bytes = growth(10000, function(i)
    local reply = fz.queue(3)
    requests:put { reply = reply, x = i }
    t.equal(reply:get(20), i + 1)
  end)
  requests:close()
  p:join()
  assert(bytes < 10 << 20, bytes)
end

tests["a queue stays usable after its creator has dropped or closed it"] = function()
  local mine, out = fz.queue(), fz.queue()
  local p <close> = fz.process(function()
    local q = mine:get(20)
    q:put(1)
    t.equal(q:get(20), 1)
    out:put "had it"
    mine:get(20)
    for i = 1, 5000 do q:put { i } end -- the process that made q has no handle any more
    for i = 1, 5000 do t.equal(q:get(20), { i }) end
    t.equal({ q:size(), q:try_get() }, { 0, false })
    for _ = 1, 5001 do q:task_done() end
    q:close()
    t.equal({ q:get() }, { nil, "closed" })
    return "went on"
  end):start()
  mine:put(fz.queue())
  t.equal(out:get(20), "had it")
  collectgarbage()
  collectgarbage()
  mine:put "dropped"
  t.equal(p:result(20), "went on")
  p:join()
end

tests["what a dropped pipe has carried is given back"] = function()
  local pool <close> = fz.pool(1)
  local item = ("x"):rep(30000)
  local before = shared_bytes()
  for i = 1, 100 do
    local a, b = fz.pipe()
    pool:apply(function(c, n)
      for _ = 1, n do c:send(c:recv(20)) end
      c:close()
    end, (function()
      for _ = 1, 10 do a:send(item) end
      return b
    end)(), 10)
    for _ = 1, 10 do t.equal(#a:recv(20), #item) end
    a:close()
    b:close()
    if i % 20 == 0 then collectgarbage() end
  end
  -- Each pipe keeps 64 KiB, and has carried more than twice as many bytes.
  local bytes = shared_bytes() - before
  assert(bytes < 10 << 20, bytes)
end

tests["a huge one that there is no memory for raises"] = function()
  local file <close> = assert(io.open "/proc/meminfo")
  -- Request the whole memory of the machine, because other processes may free some at any time.
  local kib = math.tointeger(file:read("a"):match "MemTotal:%s*(%d+)")
  local e = t.fails("memory", fz.array, "b", kib * 1024)
  t.match(e.message, "not enough memory for a shared object")
end

tests["a wait for an event serves output and results of workers"] = function()
  local out, err, status = t.command("-e", [[
    local pool <close> = fz.pool(2)
    local event, told = fz.event(), 0
    local line = ("x"):rep(199)
    for i = 1, 10 do
      pool:apply_async(function()
        for _ = 1, 1000 do print(line) end
        return ("y"):rep(100000)
      end, {}, { callback = function(y)
        assert(#y == 100000)
        told = told + 1
        if told == 10 then event:set() end
      end })
    end
    assert(event:wait(30))
    assert(told == 10)
  ]])
  t.equal({ err, status, #out }, { "", 0, 10 * 1000 * 200 })
end

tests["a wait for a value, a lock or a queue serves the results of workers"] = function()
  local v, lock, q, held = fz.value("i"), fz.lock(), fz.queue(), fz.value("i")
  local ways = {
    { function(f) v:with(f) end, function() v:add(1) end },
    { function(f) lock:with(f) end, function() lock:acquire() lock:release() end },
    { function(f) f() q:put(1) end, function() q:get() end },
  }
  local pool <close> = fz.pool(1)
  for _, way in ipairs(ways) do
    held.value = 0
    local told = 0
    local p <close> = fz.process(function()
      way[1](function()
        held.value = 1
        t.until_true(function() return held.value == 2 end)
      end)
    end):start()
    t.until_true(function() return held.value == 1 end)
    for _ = 1, 5 do
      pool:apply_async(function() return ("z"):rep(300000) end, {}, { callback = function()
        told = told + 1
        if told == 5 then held.value = 2 end
      end })
    end
    way[2]()
    t.equal(told, 5)
    p:join()
  end
end

tests["Ctrl-C ends a wait and leaves the object whole"] = function()
  for _, wait in ipairs { "event:wait()", "v:add(1)", "q:get()", "lock:acquire()" } do
    local script = t.file([[
      local event, v, inside, outside = fz.event(), fz.value("i"), fz.value("b"), fz.value("b")
      local q, lock = fz.queue(), fz.lock()
      local pid = fz.current_process().pid
      local p <close> = fz.process(function()
        v:with(function()
          lock:acquire()
          inside.value = 1
          -- Wait until the other process has left os.execute(), which ignores SIGINT.
          while outside.value == 0 do os.execute "sleep 0.01" end
          os.execute(("until grep -q ^State:.S /proc/%d/status; do sleep 0.01; done; "
            .. "sleep 0.05; kill -INT %d"):format(pid, pid))
          while outside.value == 1 do os.execute "sleep 0.01" end
          lock:release()
        end)
      end):start()
      while inside.value == 0 do os.execute "sleep 0.01" end
      outside.value = 1
      local ok, e = pcall(function() ]] .. wait .. [[ end)
      outside.value = 2
      p:join()
      q:put(1)
      event:set()
      assert(lock:acquire(0) and q:get() == 1 and event:wait(0))
      print(ok, e.kind, v:add(1))
    ]])
    -- Without env, SIGINT would be ignored if the tests run in the background of a shell.
    local out, err, status = t.shell("env --default-signal=INT \"$FZLUA\" " .. script)
    t.equal({ err, status, out }, { "", 0, "false\tinterrupted\t1\n" })
  end
end

tests["a callback that raises is not the end of the wait"] = function()
  local _, err, status = t.command("-e", [[
    local pool <close> = fz.pool(1)
    local event = fz.event()
    pool:apply_async(function() end, {}, { callback = function() error "oops" end })
    pool:apply_async(function() end, {}, { callback = function() event:set() end })
    assert(event:wait(20))
  ]])
  t.equal(status, 0)
  t.match(err, "oops")
end

tests["without a worker, too"] = function()
  local _, err, status = t.command("-j0", "-e", [[
    local event, v = fz.event(), fz.value("i")
    assert(event:wait(0.05) ~= true)
    fz.map(function(i) v:add(i) if i == 3 then event:set() end end, { 1, 2, 3 })
    assert(event:wait() and v.value == 6)
  ]])
  t.equal({ err, status }, { "", 0 })
end

tests["nothing that is shared has a name outside"] = function()
  local out = t.shell([["$FZLUA" -e 'local v, q = fz.value("i"), fz.queue() q:put(1)
    os.execute "ls /dev/shm | wc -l"'; ls /dev/shm | wc -l]])
  local inside, outside = out:match "(%d+)%s+(%d+)"
  t.equal(inside, outside)
end

return tests
