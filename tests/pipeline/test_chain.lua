local t = ...
local tests = {}

local function add(name, n)
  local s = fz.stage(name)
  s:register("A", function(a) return a + n end)
  return s
end

local function example()
  local clean = fz.stage "clean"
  clean:register("A", function(a) return a + 1 end)
  clean:register("B", function(b) return b * b end)
  local merge = fz.stage "merge"
  merge:register("C", { "A", "B" }, function(a, b) return a + b end)
  function merge.D(A, B) return A * B end
  return clean >> merge, clean, merge
end

tests["the example of the manual"] = function()
  local chain <close> = example()
  assert(chain:invoke { A = 1, B = 2 } == chain)
  t.equal(chain.output, { A = 2, B = 4, C = 6, D = 8 })
  t.equal(chain { A = 2, B = 3 }, { A = 3, B = 9, C = 12, D = 27 })
end

tests["a function reads its stage's input and never a sibling's output"] = function()
  local s = fz.stage "s"
  s:register("A", function(v) return v + 1 end)
  s:register("D", "A", function(a) return a * 10 end)
  t.equal(fz.chain({ s }) { A = 1 }, { A = 2, D = 10 })
end

tests["what no function makes passes through, the very same value"] = function()
  local chain <close> = add("a", 1) >> add("b", 1)
  local thing = coroutine.create(print)
  local out = chain { A = 1, other = thing }
  t.equal(out.A, 3)
  assert(out.other == thing)
end

tests["pass_input = false lets nothing through"] = function()
  local a, b = add("a", 1), fz.stage { name = "b", pass_input = false }
  b:register("C", "A", function(x) return x * 2 end)
  t.equal((a >> b) { A = 1, B = 2 }, { C = 4 })
  local c = fz.stage "c"
  c:register("D", "B", function(x) return x end)
  local e = t.fails("graph", (a >> b >> c).invoke, a >> b >> c, { A = 1, B = 2 })
  t.match(e, "stage c", "output D", "input B", "stage b")
  t.equal({ e.stage, e.output, e.input }, { "c", "D", "B" })
end

tests["an empty stage passes all on"] = function()
  local empty = fz.stage "empty"
  t.equal(fz.chain({ empty }) { A = 1, B = "x" }, { A = 1, B = "x" })
  t.equal((add("a", 1) >> empty >> add("b", 2)) { A = 1 }, { A = 4 })
  t.equal(fz.chain({}) { A = 1 }, { A = 1 })
end

tests["a name is read from the nearest earlier producer"] = function()
  local last = fz.stage "last"
  last:register("Z", { "A", "B" }, function(a, b) return a .. b end)
  t.equal((add("a", 1) >> add("b", 10) >> last) { A = 0, B = "-" }.Z, "11-")
end

tests["an output that is nil is there, and nil"] = function()
  local a, b = fz.stage "a", fz.stage "b"
  a:register("A", function() return nil end)
  a:register("B", function() end)
  b:register("C", { "A", "B" }, function(...) return select("#", ...) .. tostring((...)) end)
  t.equal((a >> b) { A = 1, B = 2 }, { C = "2nil" })
end

tests["sync and async give the same for false, 0, empty and nil"] = function()
  for _, value in ipairs { 0, false, "", {}, "nil" } do
    local s = fz.stage "s"
    s:register("A", function() if value == "nil" then return nil end return value end)
    local chain <close> = fz.chain { s }
    local got = chain:invoke_async({ A = 1 }):await()
    t.equal(got, chain { A = 1 })
    if value ~= "nil" then t.equal(got.A, value) end
  end
end

tests["a missing input raises before any function runs"] = function()
  local path = t.file ""
  local a, b = fz.stage "a", fz.stage "b"
  a:register("A", function(x) io.open(path, "w"):write("ran"):close() return x end)
  b:register("C", { "A", "B" }, function(x) return x end)
  local chain = a >> b
  local e = t.fails("graph", chain.invoke, chain, { A = 1 })
  t.match(e, "stage b", "output C", "input B", "missing")
  t.equal({ e.stage, e.output, e.input }, { "b", "C", "B" })
  assert(io.open(path):read "a" == "")
end

tests["a chain of a list equals >>"] = function()
  local a, b, c = add("a", 1), add("b", 2), add("c", 3)
  t.equal(tostring(fz.chain { a, b, c }), tostring(a >> b >> c))
  t.equal(tostring(fz.chain({ a, b, c }).edge_table), tostring((a >> b >> c).edge_table))
  t.equal(fz.chain { a, b, c } { A = 0 }, { A = 6 })
end

tests[">> is associative and takes stages and chains on both sides"] = function()
  local a, b, c, d = add("a", 1), add("b", 2), add("c", 3), add("d", 4)
  local text = tostring(((a >> b) >> c >> d).edge_table)
  for _, chain in ipairs { a >> (b >> c) >> d, a >> (b >> (c >> d)), (a >> b) >> (c >> d),
    a:chain(b):chain(c:chain(d)) } do
    t.equal(tostring(chain.edge_table), text)
    t.equal(chain { A = 0 }, { A = 10 })
  end
end

tests["chaining makes a new chain and changes no operand"] = function()
  local a, b, c = add("a", 1), add("b", 2), add("c", 3)
  local ab = a >> b
  local abc = ab >> c
  assert(ab ~= abc and #ab == 2 and #abc == 3)
  t.equal(ab { A = 0 }, { A = 3 })
  t.equal(abc { A = 0 }, { A = 6 })
  ab.input.A = 5
  assert(abc.input ~= ab.input)
end

tests["only stages and chains can be chained"] = function()
  local a = add("a", 1)
  t.match(t.wrong(function() return a >> 3 end), "number", "operand 2")
  t.match(t.wrong(function() return {} >> a end), "table", "operand 1")
  t.match(t.wrong(fz.chain, { a, "b" }), "element 2", "string")
end

tests["a stage twice in a chain is a graph error"] = function()
  local a, b = add("a", 1), add("b", 1)
  t.match(t.fails("graph", function() return a >> b >> a end), "stage a", "twice")
  t.fails("graph", fz.chain, { a, a })
  local other = add("a", 1)
  t.equal((a >> other) { A = 0 }, { A = 2 })
end

tests["stages, length, index, ipairs and tostring"] = function()
  local chain, clean, merge = example()
  t.equal(#chain, 2)
  assert(chain[1] == clean and chain[2] == merge and chain[3] == nil)
  local seen = {}
  for i, s in ipairs(chain) do seen[i] = s.name end
  t.equal(seen, { "clean", "merge" })
  assert(#chain.stages == 2 and chain.stages[2] == merge)
  t.equal(tostring(chain), "StageChain(clean(1) >> merge(2))")
end

tests["input is a table that can be set and is used when none is given"] = function()
  local chain <close> = example()
  chain.input = { A = 1, B = 2 }
  t.equal(chain:invoke().output.C, 6)
  chain.input.A = 2
  t.equal(chain:invoke().output.C, 7)
  t.match(t.wrong(function() chain.input = 3 end), "input", "table")
  t.match(t.wrong(function() chain.output = {} end), "output")
  t.match(t.wrong(chain.invoke, chain, 3), "#1", "invoke", "table expected, got number")
end

tests["at gives what left each stage with keep = all"] = function()
  local chain <close>, clean = example()
  chain:invoke({ A = 1, B = 2, Z = 3 }, { keep = "all" })
  t.equal(chain:at(1), { A = 2, B = 4, Z = 3 })
  t.equal(chain:at(clean), chain:at(1))
  t.equal(chain:at(2), { A = 2, B = 4, C = 6, D = 8, Z = 3 })
  chain:invoke { A = 1, B = 2 }
  t.match(t.fails("error", chain.at, chain, 1), "keep")
  t.match(t.wrong(chain.at, chain, 3), "#1", "at")
  t.match(t.wrong(chain.at, chain, fz.stage "x"), "#1", "at")
end

tests["prune forgets, and the next invoke works"] = function()
  local chain <close> = example()
  chain:invoke { A = 1, B = 2 }
  chain:prune()
  t.equal({ chain.input, chain.output, chain.errors }, { {}, {}, {} })
  t.fails("graph", chain.invoke, chain)
  t.equal(chain { A = 1, B = 2 }.C, 6)
end

tests["registering again is seen by the next invoke"] = function()
  local s = add("s", 1)
  local chain <close> = fz.chain { s }
  t.equal(chain { A = 1 }.A, 2)
  s:register("A", function(a) return a * 100 end)
  t.equal(chain { A = 1 }.A, 100)
  function s.B(A) return -A end
  t.equal(chain { A = 1 }, { A = 100, B = -1 })
end

tests["workers are kept between invokes, and what they change stays theirs"] = function()
  local count = 0
  local s = fz.stage { name = "s", workers = 1 }
  s:register("A", function() count = count + 1 return count end)
  local chain <close> = fz.chain { s }
  t.equal({ chain { A = 0 }.A, chain { A = 0 }.A, chain { A = 0 }.A }, { 1, 2, 3 })
  assert(count == 0)
  chain:reset()
  t.equal(chain { A = 0 }.A, 1)
  chain:close()
  t.equal(chain { A = 0 }.A, 1)
end

tests["workers see globals and upvalues as they were at the fork"] = function()
  local up = { 1 }
  local s = fz.stage "s"
  s:register("A", function() return up[1] end)
  local chain <close> = fz.chain { s }
  up[1] = 2
  t.equal(chain { A = 0 }.A, 2)
  up[1] = 3
  t.equal(chain { A = 0 }.A, 2)
  chain:reset()
  t.equal(chain { A = 0 }.A, 3)
end

tests["init runs once in each worker before its first job"] = function()
  local model
  local s = fz.stage { name = "s", workers = 1, init = function() model = (model or 0) + 1 end }
  s:register("A", function() return model end)
  s:register("B", "A", function() return model end)
  local chain <close> = fz.chain { s }
  t.equal(chain { A = 0 }, { A = 1, B = 1 })
  t.equal(chain { A = 0 }, { A = 1, B = 1 })
  assert(model == nil)
end

tests["an error in init is the job's error"] = function()
  local s = fz.stage { name = "s", init = function() error "no model" end }
  s:register("A", function(a) return a end)
  local chain <close> = fz.chain { s }
  t.match(t.fails("error", chain.invoke, chain, { A = 1 }), "stage s", "output A", "no model")
end

tests["jobs = 0 runs all in this process with the same results"] = function()
  local chain <close> = example()
  local ran = 0
  local s = fz.stage "count"
  s:register("E", "C", function(c) ran = ran + 1 return c end)
  local counted <close> = chain >> s
  t.equal(counted({ A = 1, B = 2 }, { jobs = 0 }), { A = 2, B = 4, C = 6, D = 8, E = 6 })
  t.equal(ran, 1)
end

tests["invoke_async returns a future of the output"] = function()
  local chain <close> = example()
  local one, two = chain:invoke_async { A = 1, B = 2 }, chain:invoke_async { A = 2, B = 3 }
  t.equal(two:await().C, 12)
  t.equal(one:await().C, 6)
  assert(one:await() == one:await(), "the result is kept")
  assert(one:done() and two:done())
end

tests["a future's await with a timeout returns nil and timeout"] = function()
  local s = fz.stage "s"
  s:register("A", function(a) os.execute "sleep 60" return a end)
  local chain <close> = fz.chain { s }
  local future = chain:invoke_async { A = 1 }
  local value, why = future:await(0.05)
  t.equal({ value == nil, why, future:done() }, { true, "timeout", false })
  assert(future:cancel() == true)
  t.fails("cancelled", future.await, future)
  assert(future:cancel() == false)
end

tests["close cancels a run under way"] = function()
  local s = fz.stage "s"
  s:register("A", function(a) os.execute "sleep 60" return a end)
  local chain = fz.chain { s }
  local future = chain:invoke_async { A = 1 }
  future:await(0.05)
  chain:close()
  t.fails("cancelled", future.await, future)
end

tests["leaving a scope finishes what runs, an error ends it"] = function()
  local s = fz.stage "s"
  s:register("A", function(a) os.execute("sleep " .. a) return a end)
  local future
  do
    local chain <close> = fz.chain { s }
    future = chain:invoke_async { A = 0.2 }
  end
  t.equal(future:done() and future:await().A, 0.2)
  pcall(function()
    local chain <close> = fz.chain { s }
    future = chain:invoke_async { A = 60 }
    error "out"
  end)
  t.fails("cancelled", future.await, future)
end

tests["a chain invokes inside a worker of another"] = function()
  local inner = example()
  local s = fz.stage "outer"
  s:register("X", function(x) return inner({ A = x, B = 2 }).C end)
  local outer <close> = fz.chain { s }
  t.equal(outer { X = 1 }.X, 6)
  t.equal(outer({ X = 1 }, { jobs = 0 }).X, 6)
end

tests["long lines of several workers stay whole"] = function()
  local out = t.command("-e", [[
local s = fz.stage "s"
for i = 1, 4 do
  s:register("o" .. i, {}, function() io.write((tostring(i)):rep(3 << 20), "\n") end)
end
fz.chain({ s }, { jobs = 4 }):invoke {}]])
  local lines = {}
  for line in out:gmatch "[^\n]+" do lines[#lines + 1] = line end
  t.equal(#lines, 4)
  for _, line in ipairs(lines) do
    t.equal({ #line, line == line:sub(1, 1):rep(#line) }, { 3 << 20, true })
  end
end

tests["C modules load in the script and in a worker"] = function()
  local lpeg = require "lpeg"
  local s = fz.stage "s"
  s:register("n", "text", function(text)
    local lfs = require "lfs"  -- this module was not loaded before the fork
    return lpeg.match(lpeg.P "a" ^ 1, text) .. lfs.attributes("/", "mode")
  end)
  local chain <close> = fz.chain { s }
  t.equal(chain:invoke({ text = "aaab" }).output.n, "4directory")
end

tests["a chain invokes itself inside its own worker"] = function()
  local s, depth, chain = fz.stage "s", 0, nil
  s:register("X", {}, function()
    depth = depth + 1
    if depth < 3 then return 10 + chain:invoke({}).output.X end
    return 3
  end)
  chain = fz.chain { s }
  t.equal(chain:invoke({}, { jobs = 1 }).output.X, 23)
  chain:close()
end

tests["a function that runs in this process may close its own chain"] = function()
  local s, chain = fz.stage "s", nil
  s:register("X", {}, function()
    chain:close()
    return 5
  end)
  chain = fz.chain { s }
  t.fails("cancelled", chain.invoke, chain, {}, { jobs = 0 })
end

tests["options of one invoke, and what it kept, do not reach the next"] = function()
  local a = fz.stage { name = "a", pass_input = false, retries = 1 }
  a:register("y", "x", function(x) return x < 3 and x + 1 or error "too much" end)
  local b = fz.stage { name = "b", pass_input = false }
  b:register("z", "y", function(y) return { y, fz.current_process().name } end)
  local chain <close> = fz.chain({ a, b }, { on_error = "continue" })
  local function here() return chain.output.z[2] == fz.current_process().name end
  for _ = 1, 2 do
    assert(chain({ x = 1 }, { jobs = 0, keep = "all" }).z[1] == 2 and here())
    assert(chain:at(1).y == 2)
    assert(chain({ x = 2 }).z[1] == 3 and not here())
    assert(not pcall(chain.at, chain, 1))
    assert(next(chain { x = 3 }) == nil and chain.errors.y.kind == "error")
    local ok, e = pcall(chain, { x = 3 }, { on_error = "stop" })
    assert(not ok and e.kind == "error" and e.attempt == 2, e)
    assert(chain { x = 0, unread = 1 }.z[1] == 1)
    a:register("y", "x", function(x) return x < 3 and x + 1 or error "too much" end)
  end
end

tests["a stage that was registered anew changes what the next invoke takes and gives"] = function()
  local s = fz.stage "s"
  s:register("y", "x", function(x) return x + 1 end)
  local chain <close> = fz.chain { s }
  t.equal(chain { x = 1, other = 2 }, { y = 2, other = 2, x = 1 })
  s:register("other", { "x", "z" }, function(x, z) return x + z end)
  t.match(t.fails("graph", chain, { x = 1, other = 2 }), "input z is missing")
  t.equal(chain { x = 1, z = 5 }, { y = 2, other = 6, x = 1, z = 5 })
end

-- Six tasks invoke the chain again and again, until there were 600 invokes. Returns the number of
-- invokes of the task that had the fewest.
local function least_share(chain)
  local counts, total = {}, 0
  fz.group(function(g)
    for i = 1, 6 do
      counts[i] = 0
      g:spawn(function()
        while total < 600 do
          t.equal(chain:invoke_async({ x = i }):await().x, i)
          counts[i], total = counts[i] + 1, total + 1
        end
      end)
    end
  end)
  return math.min(table.unpack(counts))
end

tests["invokes that run at the same time take turns"] = function()
  for _, jobs in ipairs { 0, 1, 2, 4 } do
    for nstages = 1, 3 do
      local stages = {}
      for i = 1, nstages do
        stages[i] = fz.stage("s" .. i)
        stages[i]:register("x", function(x) return x end)
      end
      local chain <close> = fz.chain(stages, { jobs = jobs })
      -- Several rounds, because a busy machine may delay the worker of one task in one of them.
      local least, rounds = 0, 0
      repeat
        least, rounds = math.max(least, least_share(chain)), rounds + 1
      until least >= 10 or rounds == 5
      if least < 10 then error(("%d of 600, jobs %d, stages %d"):format(least, jobs, nstages)) end
    end
  end
end

tests["a function waits for its own chain only, also in this process"] = function()
  local inner = fz.stage "inner"
  inner:register("y", "x", function(x) return 2 * x end)
  local outer = fz.stage "outer"
  local depth, most = 0, 0
  outer:register("y", "x", function(x)
    depth = depth + 1
    most = math.max(most, depth)
    local chain <close> = fz.chain({ inner }, { jobs = 0 })
    local y = chain { x = x }.y
    depth = depth - 1
    return y
  end)
  local chain <close> = fz.chain({ outer }, { jobs = 0 })
  local futures = {}
  for i = 1, 10 do futures[i] = chain:invoke_async { x = i } end
  for i, future in ipairs(futures) do t.equal(future:await().y, 2 * i) end
  t.equal(most, 1)
end

return tests
