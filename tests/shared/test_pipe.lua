-- Pipes: each of two ends receives what the other one sends, until the other one is closed.

local t = ...

local start = t.start

return {
  ["what one end sends the other receives"] = function()
    local a, b = fz.pipe()
    a:send { 1, { x = "y" } }
    b:send(nil)
    t.equal(b:recv(), { 1, { x = "y" } })
    t.equal(select("#", a:recv()), 1)
    t.equal({ a:poll(), a:recv(0.01) }, { false, nil, "timeout" })
  end,

  ["a child answers"] = function()
    local a, b = fz.pipe()
    local p = start(function()
      for v in function() return b:recv() end do b:send(v * 2) end
      b:send "over"
    end)
    for i = 1, 300 do
      a:send(i)
      t.equal(a:recv(), i * 2)
    end
    a:send(nil)
    t.equal(a:poll(10), true)
    t.equal(a:recv(), "over")
    p:join()
  end,

  ["an end that its child has closed is closed, though the parent has a copy of it"] = function()
    local a, b = fz.pipe()
    local p = start(function()
      b:send(1)
      b:close()
      fz.queue():get(20)
    end)
    t.equal(a:recv(), 1)
    t.equal({ a:recv(20) }, { [2] = "closed" })
    t.equal(a:poll(), true)
    t.fails("closed", a.send, a, 1)
    p:kill()
    p:join()
  end,

  ["an end is closed when its child dies"] = function()
    local a, b = fz.pipe()
    local p = start(function()
      b:send(1)
      fz.queue():get()
    end)
    t.equal(a:recv(), 1)
    t.equal({ a:recv(0.1) }, { [2] = "timeout" })
    p:kill()
    t.equal({ a:recv(20) }, { [2] = "closed" })
    p:join()
  end,

  ["an end is closed when its child dies before it has used it"] = function()
    local a = fz.pipe()
    local p = start(function() end)
    t.equal({ a:recv(20) }, { [2] = "closed" })
    p:join()
    t.fails("closed", a.send, a, 1)
  end,

  ["an end stays open for a child that has not started yet"] = function()
    for _ = 1, 20 do
      local a, b = fz.pipe()
      local p = start(function() b:send "here" end)
      b:close()
      t.equal(a:recv(20), "here")
      t.equal({ a:recv(20) }, { [2] = "closed" })
      p:join()
    end
  end,

  ["children one after another use the same end"] = function()
    local a, b = fz.pipe()
    for i = 1, 20 do
      local p = start(function() b:send(i) end)
      t.equal(a:recv(20), i)
      p:join()
    end
    t.equal({ a:recv(20) }, { [2] = "closed" })
  end,

  ["several children share an end"] = function()
    local a, b = fz.pipe()
    local ps = {}
    for i = 1, 4 do
      ps[i] = start(function() b:send(i) end)
    end
    local received = {}
    for i = 1, 4 do received[i] = a:recv(20) end
    table.sort(received)
    t.equal(received, { 1, 2, 3, 4 })
    t.equal({ a:recv(20) }, { [2] = "closed" })
    for _, p in ipairs(ps) do p:join() end
  end,

  ["an inherited handle that is not used keeps no end open"] = function()
    local ends, ps = {}, {}
    for i = 1, 3 do
      local a, b = fz.pipe()
      ends[i] = a
      ps[i] = start(function()
        b:send(i)
        b:recv()
      end)
    end
    for i = 1, 3 do t.equal(ends[i]:recv(20), i) end
    ps[1]:kill()
    t.equal({ ends[1]:recv(20) }, { [2] = "closed" })
    t.equal({ ends[3]:recv(0.01) }, { [2] = "timeout" })
    for i = 2, 3 do ends[i]:send(0) end
    for _, p in ipairs(ps) do p:join() end
  end,

  ["a child sees that we have closed our end"] = function()
    local a, b = fz.pipe()
    local p = start(function()
      local got = {}
      for v in function() return b:recv() end do got[#got + 1] = v end
      return got, select(2, b:recv()), pcall(b.send, b, 1)
    end)
    a:send(1)
    a:send(2)
    a:close()
    a:close()
    local got, why, ok, e = p:result(20)
    t.equal({ got, why, ok, e.kind }, { { 1, 2 }, "closed", false, "closed" })
    t.equal({ a:recv() }, { [2] = "closed" })
    t.equal(a:poll(), true)
    t.fails("closed", a.send, a, 1)
    p:join()
  end,

  ["in one process alone recv waits, until the other end is closed"] = function()
    local a, b = fz.pipe()
    t.equal({ a:recv(0.1) }, { [2] = "timeout" })
    do local _ <close> = b end
    t.equal({ a:recv(20) }, { [2] = "closed" })
  end,

  ["an end without a handle is closed"] = function()
    local a = fz.pipe()
    collectgarbage()
    collectgarbage()
    t.equal({ a:recv(20) }, { [2] = "closed" })
  end,

  ["an end is a value"] = function()
    local q, answer = fz.queue(), fz.queue()
    local p = start(function()
      local b = q:get()
      b:send "hello"
      answer:get()
      b:send "bye"
    end)
    local a, b = fz.pipe()
    q:put(b)
    b:close()
    t.equal({ a:recv(20) }, { "hello" })
    t.equal({ a:recv(0.1) }, { [2] = "timeout" })
    answer:put(1)
    t.equal(a:recv(20), "bye")
    t.equal({ a:recv(20) }, { [2] = "closed" })
    p:join()
  end,

  ["an end inside an unread message is open"] = function()
    local q = fz.queue()
    local a, b = fz.pipe()
    local p = start(function()
      fz.queue():get(0.3)
      q:get():send(1)
    end)
    q:put(b)
    b:close()
    t.equal(a:recv(20), 1)
    t.equal({ a:recv(20) }, { [2] = "closed" })
    p:join()
  end,

  ["an end that is in a message again stays open for a time"] = function()
    local q = fz.queue()
    local a, b = fz.pipe()
    local function once(delay)
      return start(function()
        fz.queue():get(delay)
        q:get():send "got it"
      end)
    end
    for _, delay in ipairs { 0, 0.3 } do
      local p = once(delay)
      q:put(b)
      if delay > 0 then b:close() end
      t.equal(a:recv(20), "got it")
      p:join()
    end
    t.equal({ a:recv(20) }, { [2] = "closed" })
    q:put(b) -- no process takes this handle out of the queue
    t.equal({ a:recv(0.1) }, { [2] = "timeout" })
    t.equal({ a:recv(20) }, { [2] = "closed" })
  end,

  ["poll waits"] = function()
    local a, b = fz.pipe()
    local p = start(function()
      fz.queue():get(0.2)
      b:send(1)
      b:recv()
    end)
    t.equal({ a:poll(0.01), a:poll(20), a:recv(), a:poll(0.01) }, { false, true, 1, false })
    b:close()
    a:send(0)
    t.equal({ a:poll(20), select(2, a:recv()) }, { true, "closed" })
    p:join()
  end,

  ["workers of a pool get it as an argument"] = function()
    local pool <close> = fz.pool(2)
    local a, b = fz.pipe()
    for i = 1, 10 do
      local r = pool:apply_async(function(conn, n) conn:send(n) return n end, { b, i })
      t.equal(a:recv(20), i)
      t.equal(r:get(20), i)
    end
  end,

  ["a big message goes through"] = function()
    local a, b = fz.pipe()
    local p = start(function() b:send(#b:recv()) b:send(("x"):rep(20000000)) end)
    a:send(("y"):rep(10000000))
    t.equal(a:recv(), 10000000)
    t.equal(a:recv() == ("x"):rep(20000000), true)
    p:join()
  end,

  ["an end that is passed on stays open until its last reader has it"] = function()
    local first, second = fz.queue(), fz.queue()
    local dispatcher = fz.process(function()
      second:put(first:get())
      collectgarbage()
      while true do os.execute "sleep 60" end
    end):start()
    local worker = fz.process(function()
      os.execute "sleep 1.5"
      local job = second:get()
      job.reply:send(2 * job.n)
    end):start()
    local a, b = fz.pipe()
    first:put { n = 4, reply = b }
    b:close()
    t.equal({ a:recv(20) }, { 8 })
    dispatcher:kill()
    assert(dispatcher:join(10) and worker:join(10))
  end,

  ["an end inside a message is closed if no other process is left"] = function()
    local lost = fz.queue()
    local p = fz.process(function() os.execute "sleep 60" end):start()
    local a, b = fz.pipe()
    lost:put(b)
    b:close()
    t.equal({ a:recv(0.1) }, { nil, "timeout" })
    p:kill()
    assert(p:join(10))
    t.equal({ a:recv(20) }, { nil, "closed" })
  end,

  ["a process may have both ends of a pipe that another one made"] = function()
    local ends = fz.queue()
    local maker = fz.process(function()
      local a, b = fz.pipe()
      ends:put(a)
      ends:put(b)
    end):start()
    assert(maker:join(10))
    local a, b = ends:get(), ends:get()
    a:send "there"
    t.equal(b:recv(10), "there")
    b:send "back"
    t.equal(a:recv(10), "back")
  end,
}
