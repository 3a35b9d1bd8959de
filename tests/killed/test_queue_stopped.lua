-- Queues while one process is stopped. The process may hold a lock of the queue.

local t = ...

local function signal(p, name)
  t.equal(fz.exec({ "kill", "-" .. name, tostring(p.pid) }).exitcode, 0)
end

local function state_of(p)
  local file <close> = assert(io.open(("/proc/%d/stat"):format(p.pid)))
  return file:read "a":match "%) (%a)"
end

local function sleep(seconds) fz.exec { "sleep", tostring(seconds) } end

-- Start a process that calls f() again and again, and stop it. Repeat this until a process was
-- stopped at a moment at which probe() times out. Returns this process.
local function stop_within(f, probe)
  for i = 1, 100 do
    local begun = fz.event()
    local p = fz.process(function()
      f()
      begun:set()
      while true do f() end
    end):start()
    begun:wait(30)
    sleep(0.01 + i % 7 * 0.0003)
    signal(p, "STOP")
    t.until_true(function() return state_of(p) == "T" end)
    if select(2, probe()) == "timeout" then return p end
    p:kill()
    p:join()
  end
  error "it was never stopped there"
end

local function go_on(p)
  p:kill()
  p:join()
end

return {
  ["a put times out while a stopped process holds a lock of the queue"] = function()
    local q = fz.queue()
    local p = stop_within(function() q:put("x") end, function() return q:put("y", 0.1) end)
    t.equal({ q:put("z", 0.05) }, { [2] = "timeout" })
    t.equal({ q:put({}, 0.05) }, { [2] = "timeout" })
    go_on(p)
    t.equal(q:put("z", 10), true)
  end,

  ["a get times out while a stopped process holds a lock of the queue"] = function()
    local q = fz.queue()
    for i = 1, 200000 do q:put(i) end
    local p = stop_within(function() q:put(q:get()) end, function() return q:get(0.1) end)
    t.equal({ q:get(0.05) }, { [2] = "timeout" })
    go_on(p)
    t.equal(math.type(q:get(10)), "integer")
  end,

  ["Ctrl-C ends a put while a stopped process holds a lock of the queue"] = function()
    local script = t.file [[
      local q = fz.queue()
      local pid, p = fz.current_process().pid
      local function signal(name, of) fz.exec { "kill", "-" .. name, tostring(of) } end
      for i = 1, 100 do
        local begun = fz.event()
        p = fz.process(function() while true do q:put("x") begun:set() end end):start()
        begun:wait(30)
        fz.exec { "sleep", "0.01" }
        signal("STOP", p.pid)
        repeat until io.open("/proc/" .. p.pid .. "/stat"):read "a":find "%) T"
        if select(2, q:put("y", 0.1)) == "timeout" then break end
        p:kill()
      end
      local killer
      local ok, e = pcall(function()
        killer = fz.process(function()
          fz.exec { "sleep", "0.2" }
          signal("INT", pid)
        end):start()
        q:put "z"
      end)
      print(ok, e and e.kind)
      p:kill()
      killer:join()
    ]]
    local out = t.shell('timeout --foreground 60 env --default-signal=INT "$FZLUA" ' .. script)
    t.equal(out, "false\tinterrupted\n")
  end,

  ["what cannot be put is named from the value on"] = function()
    local q, co = fz.queue(), coroutine.create(print)
    local a, b = fz.pipe()
    t.equal(t.fails("unsendable", q.put, q, co).message, "value: a coroutine cannot be sent")
    t.equal(t.fails("unsendable", q.try_put, q, { f = { co } }).message,
      "value: .f[1]: a coroutine cannot be sent")
    t.equal(t.fails("unsendable", a.send, a, { co }).message,
      "value: [1]: a coroutine cannot be sent")
    local Bad = { __fzpack = function() error("no", 0) end, __fzunpack = print }
    fz.register_class("test_queue_break.Bad", Bad)
    t.equal(t.fails("error", q.put, q, setmetatable({}, Bad)).message,
      "value: __fzpack of class 'test_queue_break.Bad': no")
    b:close()
    t.equal(q:size(), 0)
  end,

  ["an fz.Error in __fzunpack keeps its kind"] = function()
    local closed, q = fz.queue(), fz.queue()
    closed:close()
    local Late = {
      __fzpack = function() return 1 end,
      __fzunpack = function() closed:put(1) end,
    }
    fz.register_class("test_queue_break.Late", Late)
    q:put(setmetatable({}, Late))
    local e = t.fails("closed", q.get, q)
    t.match(e, "__fzunpack of class 'test_queue_break.Late': the queue is closed")
    t.equal(e.cause.kind, "closed")
  end,

  ["an end of a pipe in an item that could not be put does not stay open"] = function()
    local q, other, a, b = fz.queue(1), fz.queue(), fz.pipe()
    q:put(1)
    t.equal(q:try_put(b), false)
    t.equal({ q:put({ b }, 0.01) }, { [2] = "timeout" })
    t.fails("unsendable", q.put, other, { b, coroutine.create(print) })
    other:close()
    t.fails("closed", q.put, other, { b })
    b:close()
    t.equal({ a:recv(20) }, { [2] = "closed" })
  end,

  ["an end of a pipe that __fzpack has put in a queue stays open"] = function()
    local q, a, b = fz.queue(), fz.pipe()
    local Both = {
      __fzpack = function()
        q:put { reply = b }
        error "no"
      end,
      __fzunpack = print,
    }
    fz.register_class("test_queue_break.Both", Both)
    t.fails("error", q.put, q, setmetatable({}, Both))
    b:close()
    t.equal({ a:recv(0.2) }, { [2] = "timeout" })
    q:get().reply:send("there")
    t.equal(a:recv(10), "there")
  end,
}
