-- Which error is raised when several calls fail: the one that was first in time.

local t = ...
local tests = {}

-- Names or indexes of e.others, in their order.
local function others(e, field)
  local list = {}
  for i, other in ipairs(e.others or {}) do list[i] = other[field] end
  return list
end

tests["stop: in the order of time, not of registration"] = function()
  local order, gates, running, s = {}, {}, fz.value("i", 0), fz.stage "s"
  for i = 1, 4 do gates[i] = fz.event() end
  for i = 1, 4 do
    s:register("f" .. i, {}, function()
      if running:add(1) == 4 then gates[4]:set() end
      gates[i]:wait(20)
      error("failure " .. i, 0)
    end, { retries = i == 1 and 2 or 0 })
  end
  local chain <close> = fz.chain { s }
  local e = t.fails("error", chain.invoke, chain, {}, { jobs = 4,
    progress = function(_, _, event)
      if event.kind ~= "failed" then return end
      order[#order + 1] = event.output
      local i = math.tointeger(event.output:match "%d+")
      if i > 1 then gates[i - 1]:set() end
    end })
  t.equal({ e.output, e.message, e.stage }, { "f4", "failure 4", "s" })
  t.equal(order, { "f4", "f3", "f2", "f1" })
  t.equal(others(e, "output"), { "f3", "f2", "f1" }) -- f1 is listed, although it had retries left
  t.match(tostring(e), "failure 4", "also failed: ", "output f3: ", "output f1: failure 1")
  t.equal(select(2, tostring(e):gsub("failure 4", "")), 1)
end

tests["now: the error has no others, because it has ended them"] = function()
  for _, first in ipairs { 1, 2, 5 } do
    local running, s = fz.value("i", 0), fz.stage "s"
    for i = 1, 5 do
      s:register("f" .. i, {}, function()
        running:add(1)
        if i ~= first then while true do end end
        while running.value < 5 do end
        error("failure " .. i, 0)
      end)
    end
    local chain <close> = fz.chain { s }
    local e = t.fails("error", chain.invoke, chain, {}, { jobs = 5, on_error = "now" })
    t.equal({ e.output, e.message }, { "f" .. first, "failure " .. first })
    t.equal(e.others, nil)
    local errors = chain.errors
    for i = 1, 5 do t.equal(errors["f" .. i].kind, i == first and "error" or "cancelled") end
  end
end

tests["a dag: one that crashes first, one that raises later"] = function()
  local gate, running, g = fz.event(), fz.event(), fz.dag()
  g:add("later", {}, function() running:set() gate:wait(20) error("later", 0) end)
  g:add("crash", {}, function() running:wait(20) os.exit(7) end)
  local e = t.fails("crash", g.invoke, g, {}, { jobs = 2, progress = function(_, _, event)
    if event.kind == "failed" then gate:set() end
  end })
  t.equal({ e.output, e.exitcode, others(e, "output") }, { "crash", 7, { "later" } })
  g:close()
end

tests["one failure has no others"] = function()
  local s = fz.stage "s"
  s:register("A", {}, function() error("one", 0) end)
  s:register("B", {}, function() return 1 end)
  local chain <close> = fz.chain { s }
  local e = t.fails("error", chain.invoke, chain, {})
  t.equal(e.others, nil)
  assert(not tostring(e):find "also failed")
end

tests["many others are counted in the text"] = function()
  local e = fz.Error.new { kind = "error", message = "first", traceback = "stack traceback:\n\tx",
    others = {} }
  for i = 1, 10 do
    e.others[i] = fz.Error.new { kind = "error", message = "other " .. i .. "\nline", index = i }
  end
  t.equal(tostring(e), "first\nalso failed: item 1: other 1; item 2: other 2; item 3: other 3; "
    .. "and 7 more\nstack traceback:\n\tx")
end

-- A map whose items 1 to n run in workers of their own, and fail one after the other, from the last
-- to the first. Returns the error.
local function map_backwards(map, n, options)
  local gates, running = {}, fz.value("i", 0)
  for i = 1, n do gates[i] = fz.event() end
  options.chunksize = 1
  options.progress = function(_, _, event)
    local i = event.kind == "failed" and event.index
    if i and i > 1 then gates[i - 1]:set() end
  end
  return t.fails("error", map, function(i)
    if running:add(1) == n then gates[n]:set() end
    gates[i]:wait(20)
    error("failure " .. i, 0)
  end, t.numbers(n), options)
end

tests["a map raises the item that failed first, and has the others"] = function()
  local function check(e)
    t.equal({ e.index, e.message, others(e, "index") }, { 4, "failure 4", { 1, 2, 3 } })
    t.match(tostring(e), "item 4", "also failed: item 1")
  end
  check(map_backwards(fz.map, 4, { jobs = 4 }))
  local pool <close> = fz.pool(4)
  check(map_backwards(function(...) return pool:map(...) end, 4, {}))
end

tests["a map with on_error = now raises the item that ended the others"] = function()
  for _, first in ipairs { 1, 3, 4 } do
    local running = fz.value("i", 0)
    local e = t.fails("error", fz.map, function(i)
      running:add(1)
      if i ~= first then while true do end end
      while running.value < 4 do end
      error("failure " .. i, 0)
    end, t.numbers(4), { jobs = 4, on_error = "now", chunksize = 1 })
    t.equal({ e.index, e.message, e.others }, { first, "failure " .. first })
  end
end

-- A class whose objects can be packed, but not unpacked.
local Broken = { __fzpack = function(self) return self.why end, __fzunpack = function(why)
  if why == "table" then error { code = 3 } end
  if why == "nil" then return nil end
  error(why, 0)
end }
fz.register_class("test.Broken", Broken)

local function broken(why) return setmetatable({ why = why }, Broken) end

tests["continue: a result that cannot be read costs only its own output"] = function()
  for _, options in ipairs { {}, { keep = "all" }, { jobs = 0 } } do
    options.on_error = "continue"
    for _, why in ipairs { "text", "table", "nil" } do
      local s, last = fz.stage "s", fz.stage "last"
      s:register("A", "x", function() return { 1, { broken(why) } } end)
      s:register("B", "x", function(x) return x + 1 end)
      s:register({ "C", "D" }, { "x" }, function(x) return broken(why), x + 2 end)
      last:register("E", "B", function(b) return b * 2 end)
      local chain <close> = s >> last
      chain:invoke({ x = 1 }, options)
      t.equal(chain.output, { x = 1, B = 2, D = 3, E = 4 })
      local names = {}
      for name in pairs(chain.errors) do names[#names + 1] = name end
      table.sort(names)
      t.equal(names, { "A", "C" })
      for _, name in ipairs(names) do
        local e = chain.errors[name]
        t.equal({ e.stage, e.output }, { "s", name })
        t.match(tostring(e), "output " .. name .. ": ", "__fzunpack")
      end
    end
  end
end

tests["a result that cannot be read names stage and output when it is raised"] = function()
  local g = fz.dag()
  g:add("good", { "x" }, function(x) return x end)
  g:add("bad", { "x" }, function() return broken "why" end)
  local e = t.fails("error", g.invoke, g, { x = 1 })
  t.equal(e.output, "bad")
  t.match(tostring(e), "output bad: ", "test.Broken", "why")
  t.equal(g.output, {})
  g:close()
end

tests["a map keeps what can be read"] = function()
  local function f(i) return i % 2 == 0 and broken("item " .. i) or { i } end
  local pool <close> = fz.pool(2)
  for _, map in ipairs { fz.map, function(...) return pool:map(...) end } do
    local r = map(f, t.numbers(4), { on_error = "continue" })
    t.equal({ r[1], r[3], r.n }, { { 1 }, { 3 }, 4 })
    t.equal({ r.errors[2].index, r.errors[4].index }, { 2, 4 })
    t.match(r.errors[4].message, "item 4")
    t.equal(t.fails("error", map, f, t.numbers(4)).index % 2, 0)
  end
end

return tests
