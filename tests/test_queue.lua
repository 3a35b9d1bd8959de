-- Queues: what is put in one process comes out in another, in order, each item once.

local t = ...

local function start(f, ...)
  local p = fz.process(f, ...)
  p:start()
  return p
end

return {
  ["what is put comes out in order"] = function()
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
}
