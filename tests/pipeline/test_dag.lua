local t = ...
local tests = {}

local function diamond()
  local g = fz.dag()
  g:add("two", "one", function(x) return x .. "2" end)
  g:add("five", { "one" }, function(x) return x .. "5" end)
  g:add("three", "two", function(x) return x .. "3" end)
  g:add("four", { "three", "five" }, function(a, b) return a .. "+" .. b end)
  return g
end

tests["nodes run when their predecessors are done, output holds every node"] = function()
  local g <close> = diamond()
  assert(g:invoke { one = "1" } == g)
  t.equal(g.output, { two = "12", five = "15", three = "123", four = "123+15" })
end

tests["nodes may be added before what they read"] = function()
  local g <close> = fz.dag()
  g:add("c", { "a", "b" }, function(a, b) return a + b end)
  g:add("b", "a", function(a) return a * 2 end)
  t.equal(g({ a = 3 }), { b = 6, c = 9 })
end

tests["a name that no node makes is an input, and needed"] = function()
  local g = diamond()
  local e = t.fails("graph", g.invoke, g, {})
  t.match(e, "output two", "input one", "missing")
end

tests["a cycle is a graph error that prints it"] = function()
  local g = fz.dag()
  g:add("a", "b", function(x) return x end)
  g:add("b", "a", function(x) return x end)
  g:add("c", "a", function(x) return x end)
  t.match(t.fails("graph", g.invoke, g), "a -> b -> a")
  g:add("b", "in", function(x) return x end)
  t.equal(g { ["in"] = 1 }, { a = 1, b = 1, c = 1 })
  g:add("self", "self", function(x) return x end)
  t.match(t.fails("graph", g.invoke, g), "self -> self")
end

tests["adding a node again replaces it"] = function()
  local g <close> = diamond()
  g:invoke { one = "1" }
  g:add("five", "one", function() return "V" end)
  t.equal(g({ one = "1" }).four, "123+V")
end

tests["two functions for one output are an error that names both, and change nothing"] = function()
  local g <close> = fz.dag()
  g:add("c", "a", function(a) return a end)
  g:add({ "p", "q" }, "a", function(a) return a, a end)
  local e = t.fails("graph", function() g:add("c", "b", function(b) return b end) end)
  t.equal(e.output, "c")
  assert(e.message:gsub("tests/pipeline/test_dag.lua:%d+", "HERE") == "HERE: output c is made "
    .. "twice, by the function at HERE and by the function at HERE", e.message)
  t.match(t.fails("graph", g.add, g, { "x", "q" }, "b", print), "output q is made twice, by ",
    "and by a function of C")
  t.match(t.fails("graph", g.map, g, "c", "list", print), "output c is made twice")
  t.equal(g { a = 1 }, { c = 1, p = 1, q = 1 })
  g:add("c", "a", function(a) return -a end)
  t.fails("graph", g.add, g, "c", "a", print)
  t.equal(g { a = 1 }, { c = -1, p = 1, q = 1 })
  g:to_mermaid() -- compiles the dag, as an invoke does
  g:add("c", "a", function(a) return 2 * a end)
  t.equal(g { a = 1 }.c, 2)
end

tests["nodes may have several outputs and no inputs"] = function()
  local g <close> = fz.dag()
  g:add({ "q", "r" }, { "n" }, function(n) return n // 3, n % 3 end)
  g:add("n", {}, function() return 17 end)
  t.equal(g(), { n = 17, q = 5, r = 2 })
end

tests["on_error = continue keeps what does not depend on the failure"] = function()
  local g <close> = diamond()
  g:invoke { one = "1" }
  g:add("two", "one", function() error "boom" end)
  g:invoke({ one = "1" }, { on_error = "continue" })
  t.equal(g.output, { five = "15" })
  t.equal({ g.errors.two.kind, g.errors.three.kind, g.errors.four.kind },
    { "error", "cancelled", "cancelled" })
  t.match(g.errors.two, "output two", "boom", "test_dag.lua")
  t.match(g.errors.four, "output four", "two failed")
  assert(g.errors.five == nil)
end

tests["the error of a long cycle has its first and last names"] = function()
  local function cycle(n)
    local g = fz.dag()
    for i = 1, n do g:add("n" .. i, "n" .. (i - 2) % n + 1, function(x) return x end) end
    return t.fails("graph", g.invoke, g, {}).message
  end
  t.match(cycle(1000), "n1 -> n2 -> ", "n10 -> ... -> n1")
  assert(not cycle(1000):find "n11 ")
  t.match(cycle(11), "n10 -> n11 -> n1")
end

tests["a long chain of nodes and a wide one run"] = function()
  local g <close> = fz.dag()
  for i = 1, 300 do
    g:add("n" .. i, i == 1 and "in" or "n" .. i - 1, function(x) return x + 1 end)
    g:add("w" .. i, "in", function(x) return x * i end)
  end
  local out = g { ["in"] = 0 }
  t.equal({ out.n300, out.w7 }, { 300, 0 })
end

tests["options of the dag, the node and the invoke; others are refused"] = function()
  local g = fz.dag { jobs = 1, name = "g" }
  t.match(t.wrong(fz.dag, { job = 1 }), "'job'", "fz.dag")
  t.match(t.wrong(g.add, g, "a", {}, print, { jobs = 2 }), "'jobs'", "add")
  t.match(t.wrong(g.add, g, "a", "b"), "#3", "add", "function")
end

tests["jobs = 0 gives the same"] = function()
  local g <close> = diamond()
  t.equal(g({ one = "1" }, { jobs = 0 }), g { one = "1" })
end

tests["pictures"] = function()
  local g = diamond()
  t.match(g:to_mermaid(), "flowchart LR", '"one"', '("four")', "-->")
  t.match(g:to_dot(), "digraph", '"four"', "->")
  t.equal(g:to_mermaid(), diamond():to_mermaid())
end

return tests
