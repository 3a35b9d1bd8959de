-- test_optional.lua - inputs that arrive as nil if their maker failed.

local t = ...
local tests = {}

local function boom() error("boom", 0) end
local function text(...) return table.concat({ tostring((...)), tostring(select(2, ...)) }, " ") end

-- Call f(options) for each number of jobs and each mode of on_error.
local function for_each_mode(f)
  for _, jobs in ipairs { 0, 2 } do
    for _, mode in ipairs { "stop", "now", "continue" } do f { jobs = jobs, on_error = mode } end
  end
end

tests["an input whose maker failed arrives as nil"] = function()
  local a, b = fz.stage "a", fz.stage "b"
  a:register("A", "x", boom)
  a:register("B", "x", function(x) return x end)
  b:register("C", { "A", "B" }, text, { optional = true })
  b:register("D", { "B", "A" }, text, { optional = { "A" } })
  for_each_mode(function(options)
    local chain <close> = a >> b
    t.equal(chain({ x = 1 }, options), { x = 1, B = 1, C = "nil 1", D = "1 nil" })
    t.equal({ chain.errors.A.message, chain.errors.A.stage, chain.errors.A.kind },
      { "boom", "a", "error" })
    t.equal(chain.errors.C, nil)
  end)
end

tests["a maker that was cancelled counts as failed"] = function()
  local g <close> = fz.dag()
  g:add("a", {}, boom)
  g:add("b", "a", function(x) return x end)
  g:add("c", "b", function(x) return x end)
  g:add("d", { "c", "x" }, text, { optional = { "c" } })
  for_each_mode(function(options)
    g:invoke({ x = 5 }, options)
    t.equal(g.output, { d = "nil 5" })
    t.equal({ g.errors.a.kind, g.errors.b.kind, g.errors.c.kind },
      { "error", "cancelled", "cancelled" })
    t.match(g.errors.c, "not run, because a failed")
  end)
end

tests["values pass through stages on their way to an optional input"] = function()
  local a, b, c = fz.stage "a", fz.stage "b", fz.stage "c"
  a:register("A", "x", boom)
  b:register("B", "x", function(x) return x + 1 end)
  c:register("C", { "A", "B" }, text, { optional = "A" })
  for_each_mode(function(options)
    options.keep = "all"
    local chain <close> = a >> b >> c
    chain:invoke({ x = 1 }, options)
    t.equal(chain.output, { x = 1, B = 2, C = "nil 2" })
    t.equal({ chain:at(a), chain:at(2), chain:at(c) },
      { { x = 1 }, { x = 1, B = 2 }, { x = 1, B = 2, C = "nil 2" } })
  end)
end

tests["with stop and now a failure ends the run if any reader needs the value"] = function()
  local g <close> = fz.dag()
  g:add("a", {}, boom)
  g:add("b", "a", tostring, { optional = true })
  g:add("c", "a", tostring)
  for _, jobs in ipairs { 0, 2 } do
    for _, mode in ipairs { "stop", "now" } do
      local e = t.fails("error", g.invoke, g, {}, { jobs = jobs, on_error = mode })
      t.equal({ e.output, e.message }, { "a", "boom" })
      t.equal(g.output, {})
    end
    g:invoke({}, { jobs = jobs, on_error = "continue" })
    t.equal({ g.output, g.errors.c.kind }, { { b = "nil" }, "cancelled" })
  end
end

tests["a failure that no function reads ends the run"] = function()
  local g <close> = fz.dag()
  g:add("a", {}, boom)
  g:add("b", "a", function() error("needs it", 0) end, { optional = true })
  for _, jobs in ipairs { 0, 2 } do
    local e = t.fails("error", g.invoke, g, {}, { jobs = jobs })
    t.equal({ e.output, e.message, e.others[1].output }, { "b", "needs it", "a" })
    t.equal(t.fails("error", g.invoke, g, {}, { jobs = jobs, outputs = { "a" } }).output, "a")
    t.equal({ g.errors.a.kind, g.errors.b }, { "error", nil })
  end
end

tests["the outputs that are wanted decide who reads a value"] = function()
  local g <close> = fz.dag()
  g:add("a", {}, boom)
  g:add("b", "a", tostring, { optional = true })
  g:add("c", "a", tostring)
  g:invoke({}, { outputs = { "b" } })
  t.equal(g.output, { b = "nil" })
  t.equal(g.errors.a.message, "boom")
end

tests["each of a function's several outputs may be missing"] = function()
  local g <close> = fz.dag()
  g:add({ "a", "b" }, {}, boom)
  g:add("c", { "a", "b" }, text, { optional = { "a", "b" } })
  g:add("d", { "a", "x" }, text, { optional = { "a" } })
  g:add("e", { "a", "a" }, text, { optional = true })
  for_each_mode(function(options)
    g:invoke({ x = 1 }, options)
    t.equal(g.output, { c = "nil nil", d = "nil 1", e = "nil nil" })
    t.equal({ g.errors.a.output, g.errors.b.output }, { "a", "b" })
  end)
  g:add("f", { "a", "b" }, text, { optional = { "a" } })
  g:invoke({ x = 1 }, { on_error = "continue" })
  t.equal(g.errors.f.kind, "cancelled")
end

tests["a reader of several makers waits for those that succeed"] = function()
  local failed, g <close> = fz.event(), fz.dag()
  g:add("bad", {}, boom)
  g:add("slow", {}, function() return failed:wait(20) and "late" end)
  g:add("both", { "bad", "slow" }, text, { optional = true })
  g:invoke({}, { jobs = 2, progress = function(_, _, event)
    if event.kind == "failed" then failed:set() end
  end })
  t.equal(g.output.both, "nil late")
end

tests["retries come before an optional input is missing"] = function()
  local n, g <close> = fz.value("i", 0), fz.dag()
  g:add("a", {}, function() return n:add(1) > 2 and "third" or boom() end, { retries = 2 })
  g:add("b", "a", tostring, { optional = true })
  t.equal(g({}), { a = "third", b = "third" })
  n.value = -1
  t.equal(g({}), { b = "nil" })
  t.equal(g.errors.a.attempt, 3)
end

tests["the makers of optional inputs may crash and run out of time"] = function()
  local g <close> = fz.dag()
  g:add("crash", {}, function() os.exit(3) end)
  g:add("late", {}, function() while true do end end, { timeout = 0.05 })
  g:add("c", { "crash", "late" }, text, { optional = true })
  t.equal(g({}, { jobs = 2 }), { c = "nil nil" })
  t.equal({ g.errors.crash.kind, g.errors.late.kind }, { "crash", "timeout" })
end

tests["a stream: an item whose optional input failed has its other outputs"] = function()
  local a, b = fz.stage "a", fz.stage "b"
  a:register("A", "x", function(x) return x % 2 == 0 and boom() or x end)
  b:register("C", { "x", "A" }, text, { optional = { "A" } })
  local chain <close> = a >> b
  for_each_mode(function(options)
    local seen = {}
    for i, out, e in chain:stream({ 1, 2, 3, 4 }, options) do
      seen[i] = { out.A, out.C, e }
    end
    t.equal(seen, { { 1, "1 1" }, { nil, "2 nil" }, { 3, "3 3" }, { nil, "4 nil" } })
  end)
  b:register("E", "A", function(x) return x end)
  local seen = {}
  for i, out, e in chain:stream({ 1, 2 }, { on_error = "continue" }) do
    seen[i] = e and e.output or out.E
  end
  t.equal(seen, { 1, "A" })
  t.equal(t.fails("error", function() for _ in chain:stream { 2 } do end end).index, 1)
end

tests["the chain's own inputs are never optional"] = function()
  local s = fz.stage "s"
  s:register("A", { "x", "y" }, text, { optional = true })
  local chain <close> = fz.chain { s }
  t.match(t.fails("graph", chain.invoke, chain, { x = 1 }), "input y is missing")
  t.fails("graph", function() for _ in chain:stream { { x = 1 } } do end end)
end

tests["a stage's function that is called here may lack an optional input"] = function()
  local s = fz.stage "s"
  s:register("A", { "x", "y" }, text, { optional = { "y" } })
  s.input = { x = 1 }
  t.equal(s "A", "1 nil")
  s.input = { y = 1 }
  t.match(t.fails("graph", s.invoke, s, "A"), "input x is missing")
end

tests["a name that is no input is an error that names the nearest"] = function()
  local s, g = fz.stage "s", fz.dag()
  t.match(t.wrong(s.register, s, "A", { "height", "width" }, text, { optional = { "witdh" } }),
    "'optional'", "output A has no input witdh", "nearest name is width")
  t.match(t.wrong(s.register, s, "A", tostring, { optional = { "B" } }),
    "output A has no input B)")
  t.match(t.wrong(g.add, g, "A", {}, text, { optional = { "B" } }), "output A has no input B")
  t.match(t.wrong(g.add, g, "A", "B", text, { optional = 1 }), "'optional'", "list of inputs")
  t.match(t.wrong(g.add, g, "A", "B", text, { optional = { 1 } }), "'optional'")
  t.match(t.wrong(fz.stage, { optional = true }), "'optional'", "no such option")
  t.equal(s.funcs, {})
end

tests["the command prints the error of an optional input, which is no failure"] = function()
  local script = t.file [[
    local a, b = fz.stage "a", fz.stage "b"
    a:register("A", "x", function() error("boom", 0) end)
    b:register("C", { "A", "x" }, function(_, x) return x end, { optional = { "A" } })
    return a >> b]]
  local out, err, status = t.command(script, "x=1")
  t.equal({ out, status }, { "C = 1\nx = 1\n", 0 })
  t.match(err, "output A: boom")
  out, err, status = t.command("--on-error", "continue", script, "x=1")
  t.equal({ out, status }, { "C = 1\nx = 1\n", 1 })
  t.match(err, "output A: boom")
end

tests["pictures name optional inputs"] = function()
  local a, b = fz.stage "a", fz.stage "b"
  a:register("A", "x", boom)
  b:register("C", { "A", "y" }, text, { optional = true })
  local chain, g = a >> b, fz.dag()
  t.match(chain:to_mermaid(), "-->|optional| f")
  t.match(chain:to_dot(), "[label=optional];")
  t.equal(select(2, chain:to_dot():gsub("optional", "")), 1)
  g:add("a", {}, boom)
  g:add("b", "a", text, { optional = true })
  t.match(g:to_mermaid(), "f1 -->|optional| f2")
end

tests["progress counts each function once"] = function()
  local a, b = fz.stage "a", fz.stage "b"
  a:register("A", "x", boom)
  b:register("C", "A", tostring, { optional = true })
  local chain <close> = a >> b
  for_each_mode(function(options)
    local events, last = {}, nil
    function options.progress(done, total, event)
      if event.kind ~= "start" then events[event.output] = event.kind end
      last = { done, total }
    end
    chain:invoke({ x = 1 }, options)
    t.equal({ events, last }, { { A = "failed", C = "done" }, { 2, 2 } })
  end)
end

return tests
