-- test_retry_if.lua - the option retry_if, which errors are tried again: chains, dags, streams.

local t = ...
local tests = {}

-- A dag with one function, which fails with `message` in its first `n` calls.
local function failing(n, message, options)
  local calls, g = fz.value("i", 0), fz.dag()
  g:add("a", {}, function()
    if calls:add(1) <= n then error(message, 0) end
    return calls.value
  end, options)
  return g, calls
end

tests["only errors for which the function returns true are tried again"] = function()
  for _, jobs in ipairs { 0, 2 } do
    local g <close> = failing(2, "busy", { retries = 5, retry_if = function(e)
      return e.message == "busy"
    end })
    t.equal(g({}, { jobs = jobs }), { a = 3 })
    local h <close>, calls = failing(2, "broken", { retries = 5, retry_if = function(e)
      return e.message == "busy"
    end })
    t.equal(t.fails("error", h.invoke, h, {}, { jobs = jobs }).attempt, 1)
    t.equal(calls.value, 1)
  end
end

tests["it gets the error with stage, output and attempt, in the script's process"] = function()
  local pid, seen = fz.current_process().pid, {}
  local s = fz.stage { name = "s", retry_if = function(e)
    seen[#seen + 1] = { e.kind, e.message, e.attempt, e.stage, e.output, fz.current_process().pid }
    return true
  end }
  s:register("A", {}, function() error("no", 0) end)
  for _, jobs in ipairs { 0, 2 } do
    local chain <close> = fz.chain { s }
    seen = {}
    t.equal(t.fails("error", chain.invoke, chain, {}, { jobs = jobs, retries = 2 }).attempt, 3)
    t.equal(seen, { { "error", "no", 1, "s", "A", pid }, { "error", "no", 2, "s", "A", pid } })
  end
end

tests["crashes and timeouts are asked about, too"] = function()
  local g <close> = fz.dag { retries = 1, retry_if = function(e) return e.kind == "crash" end }
  local calls = fz.value("i", 0)
  g:add("crash", {}, function() if calls:add(1) == 1 then os.exit(1) end return "ok" end)
  g:add("late", {}, function() while true do end end, { timeout = 0.05 })
  g:invoke({}, { jobs = 2, on_error = "continue" })
  t.equal(g.output, { crash = "ok" })
  t.equal({ g.errors.late.kind, g.errors.late.attempt }, { "timeout", 1 })
end

tests["options of the invoke, the function, the stage and the chain, in this order"] = function()
  local asked
  local function by(name) return function() asked[#asked + 1] = name end end
  local function invoke(own, stage, chain, given)
    asked = {}
    local s = fz.stage { name = "s", retry_if = stage }
    s:register("A", {}, function() error("no", 0) end, { retry_if = own })
    local c <close> = fz.chain({ s }, { retries = 1, retry_if = chain })
    t.fails("error", c.invoke, c, {}, { retry_if = given })
    return asked
  end
  t.equal(invoke(by "own", by "stage", by "chain", by "given"), { "given" })
  t.equal(invoke(by "own", by "stage", by "chain"), { "own" })
  t.equal(invoke(nil, by "stage", by "chain"), { "stage" })
  t.equal(invoke(nil, nil, by "chain"), { "chain" })
end

tests["a function that raises is logged, and means no"] = function()
  for _, jobs in ipairs { 0, 2 } do
    local code = ([[
      local g = fz.dag()
      g:add("a", {}, function() error("the first", 0) end)
      local ok, e = pcall(g.invoke, g, {}, { jobs = %d, retries = 3,
        retry_if = function() error "the second" end })
      print(ok, e.message, e.attempt)]]):format(jobs)
    local out = t.shell(("%s -e '%s' 2>&1"):format(t.fzlua, code))
    t.match(out, "ERROR", "a retry_if function raised: ", "the second", "false\tthe first\t1")
  end
end

tests["it may wait, and end the run"] = function()
  local g <close> = failing(1, "no", { retries = 1, retry_if = function()
    fz.sleep(0.01)
    return fz.map(function(x) return x end, { true })[1]
  end })
  t.equal(g({}, { jobs = 2 }), { a = 2 })
  local h
  h = failing(1, "no", { retries = 1, retry_if = function()
    h:close()
    return true
  end })
  t.fails("cancelled", h.invoke, h, {}, { jobs = 2 })
end

tests["another function's failure ends the question"] = function()
  local asked, s, chain = fz.event(), fz.stage "s", nil
  s:register("A", {}, function() error("a", 0) end, { retries = 1, retry_if = function()
    asked:set()
    t.until_true(function()
      fz.sleep(0.01)
      return chain._live[1].run:failed()
    end)
    return true
  end })
  s:register("B", {}, function() asked:wait(20) error("b", 0) end)
  chain = fz.chain { s }
  local e = t.fails("error", chain.invoke, chain, {}, { jobs = 2 })
  t.equal({ e.message, e.others[1].message, e.others[1].attempt }, { "b", "a", 1 })
  chain:close()
end

tests["a deadline ends a run whose question is open"] = function()
  local g <close> = failing(9, "no", { retries = 9, retry_if = function()
    fz.sleep(0.2)
    return true
  end })
  t.equal(t.fails("timeout", g.invoke, g, {}, { jobs = 1, deadline = 0.1 }).output, nil)
end

tests["an invoke in the background asks while the script waits for something else"] = function()
  local g <close> = failing(2, "no", { retries = 2, retry_if = function() return true end })
  local future, q = g:invoke_async({}, { jobs = 1 }), fz.queue()
  t.equal({ q:get(0.01) }, { nil, "timeout" })
  t.until_true(function()
    fz.sleep(0.01)
    return future:done()
  end)
  t.equal(future:await().a, 3)
end

tests["progress has a retry for each yes"] = function()
  local options = { retries = 5, retry_if = function() return true end }
  local kinds, g <close> = {}, failing(1, "no", options)
  g:invoke({}, { jobs = 1, progress = function(_, _, event) kinds[#kinds + 1] = event.kind end })
  t.equal(kinds, { "start", "retry", "start", "done" })
end

tests["a stream asks with the place of the item"] = function()
  for _, jobs in ipairs { 0, 2 } do
    for _, ordered in ipairs { true, false } do
      local asked, s = {}, fz.stage "s"
      s:register("y", "x", function(x) return x % 3 == 0 and error("no", 0) or x end)
      local chain <close>, failed = fz.chain { s }, {}
      for i, out, e in chain:stream(t.numbers(20), {
        jobs = jobs, ordered = ordered, retries = 4, on_error = "continue", retry_if = function(e)
          asked[e.index] = e.attempt
          t.equal({ e.stage, e.output, e.kind }, { "s", "y", "error" })
          return e.attempt < 2
        end,
      }) do
        if e then failed[i] = e.attempt else t.equal(out.y, i) end
      end
      local expected = {}
      for i = 3, 20, 3 do expected[i] = 2 end
      t.equal({ asked, failed }, { expected, expected })
    end
  end
end

tests["a stream may be left, and its chain closed, while it asks"] = function()
  local s = fz.stage "s"
  s:register("y", "x", function() error("no", 0) end)
  local chain = fz.chain { s }
  t.fails("cancelled", function()
    local options = { retries = 1, retry_if = function() chain:close() return true end }
    for _ in chain:stream({ 1, 2 }, options) do end
  end)
  local e = t.fails("error", function()
    for _ in chain:stream({ 1, 2 }, { retries = 1, retry_if = function() return false end }) do end
  end)
  t.equal({ e.index, e.attempt }, { 1, 1 })
  chain:close()
end

tests["a wrong value is an error"] = function()
  local g = fz.dag()
  t.match(t.wrong(g.invoke, g, {}, { retry_if = true }), "'retry_if'", "a function expected")
  t.match(t.wrong(g.add, g, "a", print, { retry_if = "x" }), "'retry_if'")
end

return tests
