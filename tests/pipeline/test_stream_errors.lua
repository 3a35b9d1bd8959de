-- test_stream_errors.lua - streams that fail, are left early, or lose workers.

local t = ...

local tests = {}

local function kill_me() os.execute("kill -9 " .. fz.current_process().pid) end

-- A chain of three stages a, b and c that pass on x; f is called in the stage `name`.
local function chain_with(name, f, options)
  local stages = {}
  for i, stage_name in ipairs { "a", "b", "c" } do
    local given = { name = stage_name }
    for key, value in pairs(name == stage_name and options or {}) do given[key] = value end
    local stage = fz.stage(given)
    stage:register("x", name == stage_name and f or function(x) return x end)
    stages[i] = stage
  end
  return fz.chain(stages)
end

local function one_stage(f)
  local stage = fz.stage "only"
  stage:register("x", f)
  return fz.chain { stage }
end

-- Run a loop. Returns the indexes of results, the errors by index, and the error that ended it.
local function outcome(chain, source, options)
  local indexes, errors = {}, {}
  local ok, e = pcall(function()
    for i, out, err in chain:stream(source, options) do
      if out then indexes[#indexes + 1] = i end
      errors[i] = err
    end
  end)
  return indexes, errors, not ok and e or nil
end

-- An endless source that counts how often it was closed.
local function closing_source()
  local closed = 0
  local closing = setmetatable({}, { __close = function() closed = closed + 1 end })
  local i = 0
  local function following()
    i = i + 1
    return i
  end
  return function() return closed end, following, nil, nil, closing
end

local function fail_at_3(x)
  if x == 3 then error { code = 17 } end
  return x
end

tests["an error in a stage is raised in its turn, with stage, output and index"] = function()
  for _, jobs in ipairs { 0, 1, 4 } do
    for _, name in ipairs { "a", "b", "c" } do
      local chain <close> = chain_with(name, fail_at_3)
      local indexes, _, e = outcome(chain, t.numbers(50), { jobs = jobs })
      t.equal(indexes, { 1, 2 })
      t.equal({ e.kind, e.stage, e.output, e.index, e.cause.code }, { "error", name, "x", 3, 17 })
    end
  end
end

tests["after an error no more items are read, and later functions do not start"] = function()
  local marks, failed = t.file "", fz.event()
  local chain <close> = chain_with("b", function(x)
    if x == 1 then
      failed:set()
      error "at once"
    end
    failed:wait(30)
    os.execute "sleep 0.3"  -- gives the error time to arrive
    return x
  end)
  chain.stages[3]:register("x", function(x)
    local file <close> = io.open(marks, "a")
    file:write(x, "\n")
    return x
  end)
  local n = 0
  local _, _, e = outcome(chain, function()
    n = n + 1
    return n
  end, { jobs = 2, inflight = 4 })
  t.equal(e.index, 1)
  assert(n <= 4, n)
  t.equal(io.open(marks):read "a", "")
end

tests['"continue": a failed item gives an error, all others their outputs'] = function()
  for _, jobs in ipairs { 0, 1, 4 } do
    local chain <close> = chain_with("b", function(x)
      if x % 10 == 3 then error("no " .. x) end
      return x
    end)
    for _, ordered in ipairs { true, false } do
      local indexes, errors, e = outcome(chain, t.numbers(100),
        { jobs = jobs, on_error = "continue", ordered = ordered })
      t.equal({ #indexes, e }, { 90, nil })
      for i = 1, 100 do
        if i % 10 == 3 then
          t.equal({ errors[i].stage, errors[i].index }, { "b", i })
          t.match(errors[i], "no " .. i)
        else
          t.equal(errors[i], nil)
        end
      end
    end
  end
end

tests['"now" raises without waiting for earlier items'] = function()
  local chain <close> = chain_with("a", function(x)
    if x == 1 then os.execute "sleep 60" end
    if x == 3 then error "now" end
    return x
  end)
  local indexes, _, e = outcome(chain, t.numbers(5), { jobs = 2, on_error = "now", inflight = 5 })
  t.equal({ indexes, e.index }, { {}, 3 })
end

tests["an error in init is that of the items that needed it"] = function()
  local chain <close> = chain_with("b", function(x) return x end,
    { init = function() error "no model" end })
  local _, _, e = outcome(chain, t.numbers(10), { jobs = 2 })
  t.equal({ e.kind, e.stage, e.index }, { "error", "b", 1 })
  t.match(e, "no model")
end

tests["a worker that is killed is the error of its item, or a retry"] = function()
  local once = t.file ""
  for _, name in ipairs { "a", "b", "c" } do
    os.remove(once)
    local chain <close> = chain_with(name, function(x)
      if x == 7 and not io.open(once) then
        io.open(once, "w"):close()
        kill_me()
      end
      return x
    end)
    local indexes, errors = outcome(chain, t.numbers(50), { jobs = 2, on_error = "continue" })
    t.equal(#indexes, 49)
    t.equal({ errors[7].kind, errors[7].stage, errors[7].signal }, { "crash", name, 9 })
    os.remove(once)
    t.equal(#outcome(chain, t.numbers(50), { jobs = 2, retries = 1 }), 50)
  end
end

tests["a timeout ends one function, and the next item has a new worker"] = function()
  local chain <close> = chain_with("b", function(x)
    while x == 2 do end
    return x
  end, { timeout = 2 })
  for _, jobs in ipairs { 0, 1 } do
    local indexes, errors = outcome(chain, t.numbers(5), { jobs = jobs, on_error = "continue" })
    t.equal({ indexes, errors[2].kind, errors[2].stage }, { { 1, 3, 4, 5 }, "timeout", "b" })
  end
end

tests["a deadline ends the whole stream, whatever on_error says"] = function()
  local chain <close> = one_stage(function(x)
    if x == 3 then os.execute "sleep 60" end
    return x
  end)
  for _, on_error in ipairs { "stop", "continue" } do
    local indexes, errors, e =
      outcome(chain, t.numbers(5), { jobs = 1, deadline = 2, on_error = on_error })
    t.equal({ indexes, errors, e.kind }, { { 1, 2 }, {}, "timeout" })
  end
end

tests["retries and backoff are for each item"] = function()
  local marks = t.file ""
  local chain <close> = chain_with("b", function(x)
    local file <close> = io.open(marks, "a")
    file:write(x, "\n")
    if x % 2 == 0 then error "never" end
    return x
  end, { retries = 2, backoff = 0.01 })
  for _, jobs in ipairs { 0, 2 } do
    io.open(marks, "w"):close()
    local indexes, errors = outcome(chain, t.numbers(6), { jobs = jobs, on_error = "continue" })
    t.equal({ indexes, errors[2].attempt, errors[4].attempt }, { { 1, 3, 5 }, 3, 3 })
    local calls = {}
    for line in io.lines(marks) do calls[tonumber(line)] = (calls[tonumber(line)] or 0) + 1 end
    t.equal(calls, { 1, 3, 1, 3, 1, 3 })
  end
end

tests["small items that are sent together keep their own values, errors and retries"] = function()
  local makers = {
    function(i) return i end, function(i) return -i / 3 end, function(i) return i % 2 == 0 end,
    function(i) return ("s"):rep(i % 100) end, function(i) return { i } end,
    function(i) return ("b"):rep(4000 + i % 200) end, function() return nil end,
  }
  local function value(i) return makers[i % #makers + 1](i) end
  local seen = {}
  local a, b = fz.stage { name = "a", workers = 1, retries = 1 }, fz.stage "b"
  a:register("y", { "x" }, function(x)
    if x % 97 == 0 then error("no " .. x) end
    if x % 89 == 0 and not seen[x] then
      seen[x] = true
      error "once"
    end
    return value(x)
  end)
  b:register("z", { "x", "y" }, function(x, y) return { x, y } end)
  local chain <close> = a >> b
  local n = 0
  for i, out, err in chain:stream(t.numbers(5000), { inflight = 500, on_error = "continue" }) do
    n = n + 1
    t.equal(i, n)
    if i % 97 == 0 then
      t.equal({ err.kind, err.stage, err.index, err.attempt }, { "error", "a", i, 2 })
      t.match(err.message, "no " .. i)
    else
      t.equal(out.z, { i, value(i) })
    end
  end
  t.equal(n, 5000)
end

tests["an item without an input, or that cannot be sent, is an error of that item"] = function()
  local pair = fz.stage "pair"
  pair:register("sum", { "a", "b" }, function(a, b) return a + b end)
  local chain <close> = fz.chain { pair }
  local items = {
    { a = 1, b = 2 }, { a = 1 }, 5, { a = 1, b = coroutine.create(print) }, { a = 2, b = 2 },
  }
  for _, jobs in ipairs { 0, 2 } do
    for _, ordered in ipairs { true, false } do
      local indexes, errors =
        outcome(chain, items, { jobs = jobs, on_error = "continue", ordered = ordered })
      table.sort(indexes)
      t.equal(indexes, { 1, 5 })
      t.equal({ errors[2].kind, errors[2].input, errors[2].index }, { "graph", "b", 2 })
      t.match(errors[2], "stage pair, output sum: input b is missing")
      t.match(errors[3], "the chain has 2 inputs")
      t.equal({ errors[4].kind, errors[4].input }, { "unsendable", "b" })
      t.match(errors[4], "input b: a coroutine cannot be sent")
    end
    local _, _, e = outcome(chain, items, { jobs = jobs })
    t.equal(e.index, 2)
  end
end

tests["a result that cannot be sent, or read, is an error of its item"] = function()
  local Odd = { __fzpack = function(self) return self.n end, __fzunpack = function(n)
    if n == 2 then error "cannot be read" end
    return n
  end }
  fz.register_class("test_stream_errors.Odd", Odd)
  local chain <close> = chain_with("c", function(x)
    if x == 4 then return coroutine.create(print) end
    return setmetatable({ n = x }, Odd)
  end)
  local indexes, errors = outcome(chain, t.numbers(4), { on_error = "continue" })
  t.equal({ indexes, errors[2].stage, errors[2].output }, { { 1, 3 }, "c", "x" })
  t.match(errors[2], "cannot be read")
  t.equal({ errors[4].kind, errors[4].output }, { "unsendable", "x" })
end

tests["an error in the source is raised as it is; the source is closed"] = function()
  for _, jobs in ipairs { 0, 2 } do
    local chain <close> = chain_with()
    local closed, _, _, _, closing = closing_source()
    local n = 0
    local cause = { "the source's own" }
    local ok, e = pcall(function()
      for _ in chain:stream(function()
        n = n + 1
        if n == 10 then error(cause) end
        return n
      end, nil, nil, closing, { jobs = jobs }) do end
    end)
    assert(not ok and e == cause)
    t.equal(closed(), 1)
  end
end

tests["break and an error in the loop end what runs, and close the source once"] = function()
  for _, how in ipairs { "break", "error" } do
    local chain <close> = one_stage(function(x)
      if x > 1 then os.execute "sleep 60" end
      return x
    end)
    local closed, following, state, control, closing = closing_source()
    local ok = pcall(function()
      for i in chain:stream(following, state, control, closing, { jobs = 3 }) do
        t.equal(i, 1)
        if how == "error" then error "enough" end
        if how == "break" then break end
      end
    end)
    t.equal({ ok, closed() }, { how == "break", 1 })
    for _, out in chain:stream { 1 } do t.equal(out.x, 1) end -- the chain can still be used
  end
end

tests["a loop to the end closes the source, too"] = function()
  local chain <close> = chain_with()
  local closed, _, _, _, closing = closing_source()
  local n = 0
  for _ in chain:stream(function()
    n = n + 1
    return n <= 5 and n or nil
  end, nil, nil, closing, {}) do t.equal(closed(), 0) end
  t.equal(closed(), 1)
end

tests["an iterator that is dropped ends what it has under way"] = function()
  local chain <close> = one_stage(function(x)
    if x > 1 then os.execute "sleep 60" end
    return x
  end)
  do
    local following = chain:stream(t.numbers(5), { jobs = 2 })
    t.equal((following()), 1)
  end
  collectgarbage()
  collectgarbage()
  for _, out in chain:stream { 1 } do t.equal(out.x, 1) end
  chain:close()
  t.until_true(function() return t.children() == "" end)
end

tests["chain:close() in the loop: the loop raises, nothing is left"] = function()
  local chain <close> = chain_with()
  local e = t.fails("cancelled", function()
    for i in chain:stream(t.numbers(100), { jobs = 2 }) do
      if i == 3 then chain:close() end
      assert(i <= 3)
    end
  end)
  t.match(e, "the chain was closed")
end

tests["after the end the iterator returns nil, also when it has raised"] = function()
  local chain <close> = chain_with("a", fail_at_3)
  local following = chain:stream({ 1 })
  t.equal({ (following()), following(), following() }, { 1 })
  following = chain:stream({ 3 })
  t.fails("error", following)
  t.equal(following(), nil)
end

tests["a progress function that fails is logged and not called again"] = function()
  local out, err = t.command("-e", [[
local stage, calls = fz.stage "s", 0
stage:register("x", function(x) return x end)
for _ in fz.chain { stage }:stream({ 1, 2, 3 }, { progress = function()
  calls = calls + 1
  error "no"
end }) do end
print(calls)]])
  t.equal(out, "1\n")
  t.match(err, "a progress function raised")
end

tests["a progress function may close the chain"] = function()
  local chain <close> = chain_with()
  t.fails("cancelled", function()
    for _ in chain:stream(t.numbers(30), { progress = function() chain:close() end }) do end
  end)
end

tests["what workers print arrives before the item is returned"] = function()
  local script = t.file [[
local stage = fz.stage "s"
stage:register("x", function(x) print("in " .. x) return x end)
for i, out in fz.chain { stage }:stream({ 1, 2, 3 }, { jobs = 1, inflight = 1 }) do
  io.stdout:write("out ", out.x, "\n")
  io.stdout:flush()
end]]
  t.equal((t.command(script)), "in 1\nout 1\nin 2\nout 2\nin 3\nout 3\n")
end

tests["Ctrl-C in a stream ends it with nothing left"] = function()
  local begun = t.file ""
  os.remove(begun)
  local script = t.file(([[
local stage = fz.stage "s"
stage:register("x", function(x)
  if x == 5 then
    io.open("%s", "w"):close()
    os.execute "sleep 60"
  end
  return x
end)
local chain <close> = fz.chain { stage }
local ok, e = pcall(function()
  for _ in chain:stream({ 1, 2, 3, 4, 5, 6 }, { jobs = 2 }) do end
end)
print(ok, e.kind)]]):format(begun))
  local out = t.shell(([[env --default-signal=INT "$FZLUA" %s & pid=$!
while ! test -e %s; do sleep 0.05; done
kill -INT $pid; wait $pid]]):format(script,
    begun))
  t.match(out, "false\tinterrupted")
end

return tests
