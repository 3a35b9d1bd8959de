local t = ...
local tests = {}

local function one(name, ...)
  local s = fz.stage(name or "one")
  s:register(...)
  return s
end

tests["register returns the function and defaults the input to the same name"] = function()
  local s = fz.stage "s"
  local f = function(a) return a + 1 end
  assert(s:register("A", f) == f)
  t.equal(s.funcs_args, { A = { "A" } })
  assert(s.funcs.A == f)
  assert(s.name == "s")
end

tests["inputs are a name or a list, arguments come in its order"] = function()
  local s = fz.stage "s"
  s:register("X", "A", function(a) return a end)
  s:register("Y", { "B", "A" }, function(b, a) return b .. a end)
  s:register("Z", {}, function() return "none" end)
  s.input = { A = "a", B = "b" }
  t.equal({ s:invoke "X", s:invoke "Y", s:invoke "Z" }, { "a", "ba", "none" })
  t.equal(s.funcs_args, { X = { "A" }, Y = { "B", "A" }, Z = {} })
end

tests["several outputs take the several results"] = function()
  local s = one("s", { "Q", "R" }, { "A", "B" }, function(a, b) return a // b, a % b end)
  s.input = { A = 17, B = 5 }
  t.equal({ s:invoke "Q", s:invoke "R" }, { 3, 2 })
  t.equal(fz.chain({ s }) { A = 17, B = 5 }, { A = 17, B = 5, Q = 3, R = 2 })
end

tests["several outputs need their inputs named"] = function()
  t.match(t.wrong(one, "s", { "Q", "R" }, function() end), "register", "inputs")
end

tests["registering again replaces, one of several leaves the others"] = function()
  local s = one("s", { "P", "Q", "R" }, "A", function(a) return a, a * 2, a * 3 end)
  s:register("Q", "A", function() return "new" end)
  t.equal(fz.chain({ s }) { A = 1 }, { A = 1, P = 1, Q = "new", R = 3 })
  s:register("P", "A", function() return "p" end)
  s:register("R", "A", function() return "r" end)
  t.equal(fz.chain({ s }) { A = 1 }, { A = 1, P = "p", Q = "new", R = "r" })
end

tests["parameter names of a function field are its inputs"] = function()
  local s = fz.stage "s"
  function s.D(A, B) return A * B end
  t.equal(s.funcs_args, { D = { "A", "B" } })
  assert(s.D == s.funcs.D)
  t.equal(fz.chain({ s }) { A = 3, B = 4 }, { A = 3, B = 4, D = 12 })
end

tests["a member of every stage is no name for a function field"] = function()
  for _, name in ipairs { "name", "input", "output", "register", "invoke", "invoke_all", "chain",
    "prune", "funcs", "funcs_args", "pass_input", "workers" } do
    local s = fz.stage "s"
    t.match(t.wrong(function() s[name] = function(A) return A end end), name, "register")
    s:register(name, "A", function(a) return a end)
    t.equal(fz.chain({ s }) { A = 1 }[name], 1)
  end
end

tests["functions without parameter names need their inputs given"] = function()
  local s = fz.stage "s"
  t.match(t.wrong(function() s.A = print end), "C function", "register")
  t.match(t.wrong(function() s.A = function(...) return ... end end), "...", "register")
  t.match(t.wrong(function() s.A = function(self, B) return self, B end end), "dot")
  s:register("A", "B", math.abs)
  t.equal(fz.chain({ s }) { B = -2 }.A, 2)
end

tests["only functions are registered, only under names"] = function()
  local s = fz.stage "s"
  t.match(t.wrong(function() s.A = 3 end), "stage s", "A", "function")
  t.match(t.wrong(function() s:stream({}) end), "no method 'stream'", "fz.chain{s}:stream(...)")
  t.match(t.wrong(s.register, s, "A", "B"), "#3", "register", "function expected, got no value")
  t.match(t.wrong(s.register, s, 1, print), "#1", "register")
  t.match(t.wrong(s.register, s, {}, {}, print), "#1", "no output")
  t.match(t.wrong(s.register, s, "A", { "B", 2 }, print), "#2", "name 2")
  t.match(t.wrong(s.register, s, "A", { x = "B" }, print), "#2", "list of names")
end

tests["one name twice in one registration is a graph error"] = function()
  local s = fz.stage "s"
  local e = t.fails("graph", s.register, s, { "A", "A" }, {}, function() end)
  t.match(e, "s", "A", "twice")
  t.equal({ e.stage, e.output }, { "s", "A" })
end

tests["invoke and call run one function here with extra arguments"] = function()
  local s = one("s", "A", function(a, plus) return a + (plus or 0) end)
  s.input = { A = 1, B = "b" }
  t.equal({ s:invoke("A"), s("A", 10), s("B") }, { 1, 11, "b" })
  local e = t.fails("graph", s, "C")
  t.match(e, "stage s", "C")
  s.input = {}
  t.match(t.fails("graph", s.invoke, s, "A"), "stage s", "output A", "input A")
end

tests["invoke runs in this process"] = function()
  local seen
  local s = one("s", "A", function(a) seen = a return a end)
  s.input = { A = 5 }
  s "A"
  assert(seen == 5)
end

tests["invoke_all runs in workers and fills output"] = function()
  local touched = 0
  local s = one("s", "A", function(a) touched = touched + 1 return a + touched end)
  s.input = { A = 1, B = 2 }
  assert(s:invoke_all() == s)
  t.equal(s.output, { A = 2, B = 2 })
  assert(touched == 0, "it ran in this process")
  s.input = { A = 7 }
  assert(s:invoke_all().output.B == nil)
end

tests["prune forgets input and output"] = function()
  local s = one("s", "A", function(a) return a end)
  s.input = { A = 1 }
  s:invoke_all()
  s:prune()
  t.equal({ s.input, s.output }, { {}, {} })
end

tests["two fresh stages never share tables"] = function()
  local x, y = fz.stage "x", fz.stage "y"
  x.input.k, x.output.k = 1, 1
  t.equal({ y.input, y.output, y.funcs, y.funcs_args }, { {}, {}, {}, {} })
end

tests["a stage takes options and refuses others"] = function()
  local s = fz.stage { name = "s", workers = 2, pass_input = false, timeout = 5 }
  t.equal({ s.name, s.workers, s.pass_input }, { "s", 2, false })
  t.match(t.wrong(fz.stage, { name = "s", worker = 2 }), "'worker'", "fz.stage")
  t.match(t.wrong(fz.stage, 7), "#1", "fz.stage", "table expected, got number")
end

tests["members that hold values check them"] = function()
  local s = fz.stage "s"
  t.match(t.wrong(function() s.input = 1 end), "input", "table")
  t.match(t.wrong(function() s.pass_input = 1 end), "pass_input", "boolean")
  s.pass_input = false
  assert(s.pass_input == false)
end

return tests
