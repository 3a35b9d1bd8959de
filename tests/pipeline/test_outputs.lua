-- test_outputs.lua - invokes and streams that run only what some outputs need.

local t = ...
local fz = require "fzlua"

local tests = {}

-- A chain of two stages whose functions put their names into a queue, and the queue.
local function chain_and_calls()
  local calls = fz.queue()
  local first, second = fz.stage "first", fz.stage "second"
  first:register("A", { "a" }, function(a)
    calls:put "A"
    return a + 1
  end)
  first:register("B", { "b" }, function(b)
    calls:put "B"
    return b * b
  end)
  second:register("C", { "A" }, function(A)
    calls:put "C"
    return A * 2
  end)
  second:register({ "D", "E" }, { "A", "B" }, function(A, B)
    calls:put "DE"
    return A + B, A - B
  end)
  return first >> second, calls
end

-- The names in the queue, sorted, as one text.
local function text_of(calls)
  local names = {}
  local ok, name = calls:try_get()
  while ok do
    names[#names + 1] = name
    ok, name = calls:try_get()
  end
  table.sort(names)
  return table.concat(names, " ")
end

tests["only what an output needs runs, and only it is kept"] = function()
  local chain <close>, calls = chain_and_calls()
  for _, jobs in ipairs { 0, 2 } do
    t.equal(chain({ a = 1, b = 3, x = 5 }, { outputs = { "C" }, jobs = jobs }), { C = 4 })
    t.equal(text_of(calls), "A C")
    t.equal(chain({ a = 1, b = 3 }, { outputs = { "E", "B" }, jobs = jobs }), { B = 9, E = -7 })
    t.equal(text_of(calls), "A B DE")
    t.equal(chain({ a = 1, b = 3 }, { outputs = { "A" }, jobs = jobs }), { A = 2 })
    t.equal(text_of(calls), "A")
  end
  t.equal(chain { a = 1, b = 3 }, { A = 2, B = 9, C = 4, D = 11, E = -7, a = 1, b = 3 })
end

tests["inputs that nothing wanted reads may be missing"] = function()
  local chain <close> = chain_and_calls()
  t.equal(chain({ a = 1 }, { outputs = { "C" } }), { C = 4 })
  local e = t.fails("graph", chain.invoke, chain, { a = 1 }, { outputs = { "B" } })
  t.equal(e.input, "b")
end

tests["an input that passes through can be wanted"] = function()
  local chain <close>, calls = chain_and_calls()
  t.equal(chain({ a = 1, x = 7 }, { outputs = { "x" } }), { x = 7 })
  t.equal(text_of(calls), "")
  local e = t.fails("graph", chain.invoke, chain, { a = 1 }, { outputs = { "x" } })
  t.match(e, "output x is wanted, but no function makes it")
end

tests["a replaced value is run, and the name that leaves is the last one"] = function()
  local one, two = fz.stage "one", fz.stage "two"
  one:register("x", function(x) return x + 1 end)
  two:register("x", function(x) return x * 10 end)
  two:register("y", { "x" }, function(x) return -x end)
  local chain <close> = one >> two
  t.equal(chain({ x = 1 }, { outputs = { "x" } }), { x = 20 })
  t.equal(chain({ x = 1 }, { outputs = { "y" } }), { y = -2 })
end

tests["workers are the same with and without outputs"] = function()
  local stage = fz.stage { name = "s", workers = 1 }
  local function pid() return fz.current_process().pid end
  stage:register("p", { "x" }, pid)
  stage:register("q", { "x" }, pid)
  local chain <close> = fz.chain { stage }
  local both = chain { x = 1 }
  t.equal(both.p, both.q)
  t.equal(chain({ x = 1 }, { outputs = { "q" } }), { q = both.q })
end

tests["a function that is registered anew is used"] = function()
  local stage = fz.stage "s"
  stage:register("y", { "x" }, function(x) return x end)
  local chain <close> = fz.chain { stage }
  t.equal(chain({ x = 1 }, { outputs = { "y" } }), { y = 1 })
  stage:register("y", { "x" }, function(x) return x + 1 end)
  t.equal(chain({ x = 1 }, { outputs = { "y" } }), { y = 2 })
end

tests["errors of functions that are not wanted do not happen"] = function()
  local dag <close> = fz.dag()
  dag:add("good", { "x" }, function(x) return x end)
  dag:add("bad", { "good" }, function() error "bad" end)
  t.equal(dag({ x = 1 }, { outputs = { "good" } }), { good = 1 })
  t.fails("error", dag.invoke, dag, { x = 1 }, { outputs = { "bad" } })
  t.fails("graph", dag.invoke, dag, { x = 1 }, { outputs = { "x" } })
end

tests["keep = all has the values of the functions that ran"] = function()
  local chain <close> = chain_and_calls()
  chain:invoke({ a = 1, b = 2 }, { outputs = { "C" }, keep = "all" })
  t.equal(chain:at(1).A, 2)
  t.equal(chain:at(1).B, nil)
  t.equal(chain:at(2).C, 4)
end

tests["streams keep only the wanted outputs"] = function()
  local chain <close>, calls = chain_and_calls()
  local outs = {}
  for i, out in chain:stream({ { a = 1, x = 1 }, { a = 2, x = 2 } }, { outputs = { "C", "x" } }) do
    outs[i] = out
  end
  t.equal(outs, { { C = 4, x = 1 }, { C = 6, x = 2 } })
  t.equal(text_of(calls), "A A C C")
end

tests["wrong outputs are errors at the caller's line"] = function()
  local chain <close> = chain_and_calls()
  for _, outputs in ipairs { {}, { 1 }, "C" } do
    t.match(t.wrong(function() chain:invoke({}, { outputs = outputs }) end), "bad option 'outputs'")
  end
end

return tests
