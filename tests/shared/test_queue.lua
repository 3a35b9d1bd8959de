-- Queues: an item that one process puts is taken by another one, in order and once.

local t = ...

local start = t.start

return {
  ["items come out in the order of put"] = function()
    local q = fz.queue()
    for i = 1, 20000 do q:put(i) end
    t.equal(q:size(), 20000)
    for i = 1, 20000 do t.equal(q:get(), i) end
    t.equal(q:empty(), true)
  end,

  ["all kinds of values cross"] = function()
    local q = fz.queue()
    local values = {
      0, -1, 127, 128, -129, 1 << 40, math.mininteger, 0.1, -0.0, 1 / 0, true, false, "",
      "a\0b", ("x"):rep(63), ("x"):rep(64), ("y"):rep(5000), ("z"):rep(40000),
      ("w"):rep(3000000), { 1, { 2, a = { {} } } }, { n = 3, list = t.numbers(30000) },
    }
    local p = start(function() for _, v in ipairs(values) do q:put(v) end end)
    for _, v in ipairs(values) do
      t.equal(q:get(), v)
    end
    p:join()
    t.equal(q:size(), 0)
  end,

  ["nil is a value"] = function()
    local q = fz.queue()
    q:put(nil)
    t.equal(q:size(), 1)
    t.equal(select("#", q:get()), 1)
    q:put(nil)
    t.equal(table.pack(q:try_get()), { true, nil, n = 2 })
  end,

  ["a full queue makes put wait"] = function()
    local q = fz.queue(2)
    t.equal({ q:put(1), q:try_put(2), q:try_put(3) }, { true, true, false })
    t.equal(q:full(), true)
    t.equal({ q:put(3, 0.01) }, { [2] = "timeout" })
    local p = start(function() for i = 3, 30 do q:put(i) end end)
    for i = 1, 30 do t.equal(q:get(), i) end
    p:join()
    t.equal({ q:get(0.01) }, { [2] = "timeout" })
    t.equal({ q:try_get() }, { false })
  end,

  ["a closed queue can be read and not written"] = function()
    local q = fz.queue()
    q:put(1)
    local p = start(function() q:close() end)
    p:join()
    t.match(t.fails("closed", q.put, q, 2).message, "closed")
    t.fails("closed", q.try_put, q, 2)
    t.equal(q:get(), 1)
    t.equal({ q:get() }, { [2] = "closed" })
    t.equal({ q:try_get() }, { false, "closed" })
  end,

  ["what cannot be sent leaves the queue as it was"] = function()
    local q = fz.queue()
    local e = t.fails("unsendable", q.put, q, { rows = { {}, { file = io.popen "true" } } })
    t.match(e.message, ".rows[2].file: a FILE* cannot be sent")
    t.equal(q:size(), 0)
    q:put(1)
    t.equal(q:get(), 1)
  end,

  ["many producers and consumers lose no item and get none twice"] = function()
    local n = os.getenv "FZLUA_LONG" and 125000 or 2500
    local q, results = fz.queue(100), fz.queue()
    local ps = {}
    for w = 1, 8 do
      ps[w] = start(function() for i = 1, n do q:put(w << 32 | i) end end)
    end
    for w = 9, 16 do
      ps[w] = start(function()
        local sum, count, last = 0, 0, {}
        for item in function() return q:get() end do
          local who, i = item >> 32, item & 0xffffffff
          assert(i > (last[who] or 0)) -- the items of each producer are in order
          last[who], sum, count = i, sum + item, count + 1
        end
        results:put { sum, count }
      end)
    end
    for w = 1, 8 do ps[w]:join() end
    q:close()
    local sum, count = 0, 0
    for _ = 1, 8 do
      local r = results:get(20)
      sum, count = sum + r[1], count + r[2]
    end
    t.equal({ count, sum }, { 8 * n, 36 * n << 32 | 8 * (n * (n + 1) // 2) })
    for w = 9, 16 do ps[w]:join() end
  end,

  ["a child that put big items can be joined before they are read"] = function()
    local q = fz.queue()
    local p = start(function()
      for i = 1, 10 do q:put(("%c"):format(i):rep(10000000)) end
    end)
    p:join()
    for i = 1, 10 do t.equal(q:get() == ("%c"):format(i):rep(10000000), true) end
  end,

  ["big items"] = function()
    local n, size = os.getenv "FZLUA_LONG" and 100 or 5, 64 << 20
    local q = fz.queue(2)
    local p = start(function()
      for i = 1, n do q:put(("%c"):format(i):rep(size)) end
    end)
    for i = 1, n do
      local s = q:get()
      t.equal({ #s, s:byte(1), s:byte(size) }, { size, i, i })
    end
    p:join()
  end,

  ["a million items can be put before the first one is taken"] = function()
    local q = fz.queue()
    for i = 1, 1000000 do q:put(i) end
    t.equal(q:size(), 1000000)
    for i = 1, 1000000 do if q:get() ~= i then error(i) end end
    t.equal(q:empty(), true)
  end,

  ["a queue is a value: through a queue, in a table, as argument, in a result"] = function()
    local q, inner = fz.queue(), fz.queue()
    local p = fz.process(function(direct)
      direct:put "as argument"
      local got = q:get()
      got.deep[1]:put "in a table"
      q:get():put "itself"
      local mine = fz.queue()
      mine:put "made later"
      q:put(mine)
      return mine
    end, inner)
    p:start()
    q:put { deep = { inner } }
    t.equal({ inner:get(20), inner:get(20) }, { "as argument", "in a table" })
    q:put(inner)
    t.equal(inner:get(20), "itself")
    local made = q:get(20)
    t.equal(made:get(20), "made later")
    t.equal(p:result(20) == made, true)
    p:join()
    made:put(1) -- the process that made this queue has ended
    t.equal(made:get(), 1)
  end,

  ["workers of a pool share one"] = function()
    local pool <close> = fz.pool(3)
    local q = fz.queue()
    pool:map(function(i) q:put(i) end, t.numbers(100), { chunksize = 1 })
    local sum = 0
    for _ = 1, 100 do sum = sum + q:get(20) end
    t.equal({ sum, q:size() }, { 5050, 0 })
  end,

  ["without workers it is the same"] = function()
    local _ <close> = t.in_this_process()
    local q = fz.queue()
    fz.map(function(i) q:put(i) end, { 1, 2, 3 })
    t.equal({ q:get(), q:get(), q:get(), q:size() }, { 1, 2, 3, 0 })
  end,

  ["close ends the waits of all processes"] = function()
    local full, empty, said = fz.queue(1), fz.queue(), fz.queue()
    full:put(0)
    local ps = {}
    for i = 1, 3 do
      ps[i] = start(function() said:put { select(2, empty:get()) } end)
      ps[i + 3] = start(function() said:put { select(2, pcall(full.put, full, i)).kind } end)
    end
    t.equal({ said:get(0.2) }, { nil, "timeout" })
    empty:close()
    full:close()
    for _ = 1, 6 do t.equal(said:get(20), { "closed" }) end
    t.equal({ full:get(), full:size() }, { 0, 0 })
    for _, p in ipairs(ps) do p:join() end
  end,

  ["an item that cannot be read is lost, and it alone"] = function()
    local Bad = { __name = "test.Bad", __fzpack = function() return 1 end,
      __fzunpack = function() error "never" end }
    fz.register_class("test.queue.Bad", Bad)
    local q = fz.queue()
    for _, v in ipairs { 1, setmetatable({}, Bad), 2 } do q:put(v) end
    q:put { setmetatable({}, Bad), ("x"):rep(100000) }
    q:put(3)
    t.equal(q:get(), 1)
    t.match(select(2, pcall(q.get, q)), "never")
    t.equal(q:get(), 2)
    t.match(select(2, pcall(q.get, q)), "never")
    t.equal({ q:get(), q:size() }, { 3, 0 })
  end,

  ["__fzpack and __fzunpack may use queues"] = function()
    local q, other = fz.queue(), fz.queue()
    local big = ("x"):rep(1000)
    local Deep = {
      __fzpack = function(self)
        other:put { big, "packed" }
        return { self[1], big }
      end,
      __fzunpack = function(plain)
        plain[3] = other:get()[2]
        return plain
      end,
    }
    fz.register_class("test.queue.Deep", Deep)
    q:put { setmetatable({ 5 }, Deep), big }
    t.equal(q:get(), { { 5, big, "packed" }, big })
  end,

  ["join waits until all that was put is done"] = function()
    local q = fz.queue()
    t.equal(q:join(), true)
    t.match(t.fails("error", q.task_done, q).message, "more often")
    local p = start(function()
      for _ = 1, 10 do
        q:get()
        fz.queue():get(0.01)
        q:task_done()
      end
    end)
    for i = 1, 10 do q:put(i) end
    t.equal({ q:join(0.01) }, { nil, "timeout" })
    t.equal(q:join(20), true)
    t.equal(q:size(), 0)
    p:join()
    t.fails("error", q.task_done, q)
  end,

  ["Ctrl-C ends a wait"] = function()
    local script = [[
      local q, full = fz.queue(), fz.queue(1)
      full:put(1)
      local which = ...
      local other = fz.process(fz.sleep, 60) -- could end the wait, so it is not a deadlock
      other.daemon = true
      other:start()
      ready()
      local ok, e = pcall(which == "get" and q.get or which == "put" and full.put or full.join,
        which == "get" and q or full, which == "put" and {("x"):rep(100000)} or nil)
      print(ok, e.kind, q:size(), full:size())
    ]]
    for _, which in ipairs { "get", "put", "join" } do
      local out = t.interrupt(script, which)
      t.equal(out, "false\tinterrupted\t0\t1\n")
    end
  end,

  ["two runs side by side have nothing in common"] = function()
    local script = t.file [[
      local q = fz.queue()
      local p = fz.process(function() for i = 1, 20000 do q:put(i) end end)
      p:start()
      for i = 1, 20000 do assert(q:get() == i) end
      p:join()
      print(q:size())
    ]]
    local out = t.shell(('"$FZLUA" %s & "$FZLUA" %s & wait'):format(script, script))
    t.equal(out, "0\n0\n")
  end,

  ["a callback of a pool comes while one waits"] = function()
    local pool <close> = fz.pool(1)
    local q = fz.queue()
    pool:apply_async(function(a) return a + 1 end, { 1 }, {
      callback = function(v) q:put(v) end,
    })
    t.equal(q:get(20), 2)
  end,

  ["try_get, try_put and close do not wait for a stopped process"] = function()
    local q = fz.queue()
    local big = ("x"):rep(30000)
    local p = fz.process(function()
      while true do
        for _ = 1, 3 do q:try_put(big) end
        q:try_get()
      end
    end):start()
    for _ = 1, 30 do -- the process may be stopped while it holds a lock of the queue
      os.execute(("kill -STOP %d"):format(p.pid))
      t.until_true(function()
        local file <close> = assert(io.open(("/proc/%d/stat"):format(p.pid)))
        return file:read("a"):match "%) T "
      end)
      local before = fz.now()
      for _ = 1, 3 do
        q:try_put "small"
        q:try_get()
      end
      q:size()
      assert(fz.now() - before < 10, "it waits")
      -- Take most items before the process continues, because it may put faster than it takes.
      while q:size() > 100 and q:try_get() do end
      os.execute(("kill -CONT %d"):format(p.pid))
    end
    os.execute(("kill -STOP %d"):format(p.pid))
    q:close()
    t.fails("closed", q.put, q, 1)
    p:kill()
    p:join()
  end,

  ["wrong arguments say where"] = function()
    t.wrong(function() fz.queue(-1) end)
    t.wrong(function() fz.queue "x" end)
    local q = fz.queue()
    t.wrong(function() q:put() end)
    t.wrong(function() q:put(1, "x") end)
    t.wrong(function() q:get {} end)
    t.match(t.wrong(function() q.get(fz.lock()) end), "fzlua.Queue expected")
    t.equal(q:size(), 0)
  end,
}
