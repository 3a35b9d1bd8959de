local t = ...
local tests = {}

local EXAMPLE = [[
local clean = fz.stage "clean"
clean:register("A", function(a) return a + 1 end)
clean:register("B", function(b) return b * b end)
local merge = fz.stage "merge"
merge:register("C", {"A", "B"}, function(a, b) return a + b end)
function merge.D(A, B) return A * B end
return clean >> merge
]]

local ECHO = [[
local s = fz.stage {name = "s", pass_input = false}
s:register("OUT", "IN", function(x) return x end)
s:register("TYPE", "IN", function(x) return math.type(x) or type(x) end)
return fz.chain({s})
]]

-- Run the command; its status and outputs must be these.
local function check(status, out, ...)
  local got, err, code = t.command(...)
  if code ~= status then error(("status %d: %s%s"):format(code, got, err), 2) end
  if out and got ~= out then error(("expected %q\ngot %q"):format(out, got), 2) end
  return err, got
end

tests["a script that returns a chain is run with NAME=VALUE"] = function()
  check(0, "A = 2\nB = 4\nC = 6\nD = 8\n", t.file(EXAMPLE), "A=1", "B=2")
  check(0, "A = 2\nB = 4\nC = 6\nD = 8\nY = y\nZ = true\n", t.file(EXAMPLE), "A=1", "B=2",
    "Z=true", "Y=y")
  check(0, "A = 2\nB = 4\nC = 6\nD = 8\n", "-j0", t.file(EXAMPLE), "A=1", "B=2")
end

tests["a script may return a dag"] = function()
  local dag = [[local g = fz.dag()
g:add("c", {"a", "b"}, function(a, b) return a .. b end)
return g]]
  check(0, "c = xy\n", t.file(dag), "a=x", "b=y")
  local many = t.file [[local g = fz.dag()
g:add("a", function() return "x" end)
g:add("b", {"a"}, function(a) return #a end)
return g]]
  check(0, "a = x\nb = 1\n", many)
  check(0, '{"a":"x","b":1}\n', "--json", many)
  check(0, "b = 1\n", "--only", "b", many)
end

tests["a chain that passes nothing on prints each output once"] = function()
  check(0, "y = 2\nz = 3\n", t.file [[local s = fz.stage {name = "s", pass_input = false}
function s.y(x) return x + 1 end
function s.z(x) return x + 2 end
return fz.chain{s}]], "x=1")
end

tests["--json prints one object"] = function()
  check(0, '{"A":2,"B":4,"C":6,"D":8,"Z":[1,{"k":2.5}]}\n', "--json", t.file(EXAMPLE), "A=1",
    "B=2", 'Z=[1,{"k":2.5}]')
end

tests["values are numbers, true, false, JSON, a file or a string"] = function()
  local script, file = t.file(ECHO), t.file "bytes\0of\na file"
  for _, case in ipairs {
    { "1", "1", "integer" }, { "1.0", "1.0", "float" }, { "-7", "-7", "integer" },
    { "9223372036854775807", "9223372036854775807", "integer" },
    { "0.3333333333333333", "0.3333333333333333", "float" }, { "1e+100", "1e+100", "float" },
    { "true", "true", "boolean" }, { "false", "false", "boolean" }, { "text", '"text"', "string" },
    { '"1"', '"1"', "string" }, { "[1,2]", "[1,2]", "table" }, { "[1,", '"[1,"', "string" },
    { "", '""', "string" }, { "a=b", '"a=b"', "string" },
    { '{"a":null}', "{}", "table" },
    { '[{},[],{"n":0}]', '[{},[],{"n":0}]', "table" },
    { "@" .. file, '"bytes\\u0000of\\na file"', "string" },
  } do
    check(0, ('{"OUT":%s,"TYPE":"%s"}\n'):format(case[2], case[3]), "--json", script,
      "IN=" .. case[1])
  end
  check(2, "", script, "IN=@/nonexistent/file")
end

tests["text is a number only if the number is printed in the same way"] = function()
  local script = t.file(ECHO)
  for _, text in ipairs { "00", "-0", "+1", " 1", "1 ", "1.", ".5", "1.10", "1e5", "0x1p4",
    "9223372036854775808", "0.1000000000000000055", "1e999", "inf", "nan", "null", "True" } do
    check(0, ('{"OUT":"%s","TYPE":"string"}\n'):format(text), "--json", script, "IN=" .. text)
  end
end

tests["NAME:=JSON is always JSON"] = function()
  local script = t.file(ECHO)
  for _, case in ipairs {
    { "1e2", "100.0", "float" }, { '"@x"', '"@x"', "string" }, { " [ 1 ]", "[1]", "table" },
    { "{}", "{}", "table" }, { '"a:=b"', '"a:=b"', "string" },
  } do
    check(0, ('{"OUT":%s,"TYPE":"%s"}\n'):format(case[2], case[3]), "--json", script,
      "IN:=" .. case[1])
  end
  for _, text in ipairs { "", "text", "007", "@file", "[1", "null" } do
    t.match(check(2, "", script, "IN:=" .. text), "input IN")
  end
end

tests["an input that no function reads: a warning, or an error if it cannot pass"] = function()
  local err = check(0, "A = 2\nB = 4\nC = 6\nD = 8\nEXTRA = 1\n", t.file(EXAMPLE), "A=1", "B=2",
    "EXTRA=1")
  t.match(err, "warning", "EXTRA")
  local script = t.file [[
local s = fz.stage {name = "s", pass_input = false}
s:register("OUT", {"threshold", "path"}, function(x, y) return x .. y end)
return fz.chain({s})]]
  err = check(2, "", script, "threshhold=1", "path=x")
  t.match(err, "missing input threshold", "threshhold", "nearest name is threshold")
  t.match(check(2, "", script, "--", "threshold=1", "path=x"), "options come before")
  t.match(check(2, "", "--input", t.file '{"threshold":1,"path":2,"Paht":3}', script), "Paht",
    "nearest name is path")
  t.match(check(2, "", t.file(EXAMPLE), "A=1", "B=2", "D=3"), "input D") -- D is an output of merge
end

tests["a script may remove all globals"] = function()
  local script = t.file [[
    local fz, globals = require "fzlua", _G
    local stage = fz.stage "s"
    function stage.B(A) return tostring(A + 1) end
    local tostring <const> = tostring
    stage:register("C", "A", function(A) return tostring(A) end)
    fz.process(tostring, 1):start()
    for name in pairs(globals) do
      if name ~= "io" and name ~= "tostring" then globals[name] = nil end
    end
    return stage]]
  t.equal({ t.command(script, "A=1") }, { "B = 2\nC = 1\nA = 1\n", "", 0 })
end

tests["a script that forgets to return its chain is wrong use"] = function()
  local forgets = EXAMPLE:gsub("return clean", "local chain = clean")
  t.match(check(2, "", t.file(forgets)), "return chain")
  t.match(check(2, "", t.file(forgets), "A=1", "B=2"), "return chain")
  local stages = EXAMPLE:gsub("return clean >> merge", "")
  check(0, "", t.file(stages))
  t.match(check(2, "", t.file(stages), "A=1"), "return chain")
  t.match(check(2, "", t.file "fz.dag():add('a', {}, print)"), "return chain")
  for _, ending in ipairs { "(clean >> merge):invoke {A = 1, B = 2}", "print(clean >> merge)",
    "tostring((clean >> merge).edge_table)" } do
    check(0, nil, t.file((EXAMPLE:gsub("return clean >> merge", ending))), "A=1")
  end
  for _, use in ipairs { "fz.map(function(a) return chain{A = a, B = 1}.C end, {1})",
    "fz.process(function() return chain{A = 1, B = 1} end):start()",
    "local p = fz.pool(1) print(p:apply(function() return chain{A = 1, B = 1}.C end))",
    "chain:invoke_async{A = 1, B = 1}" } do
    check(0, nil, t.file(forgets .. use), "A=1")
  end
  check(0, "name=x\n", t.file "print(...)", "name=x")
end

tests["--json: one object on standard output, all else on standard error"] = function()
  local script = t.file [[
print "script"
local s = fz.stage "s"
s:register("A", {}, function() print "function" os.execute "echo program" return 1 end)
return fz.chain {s}]]
  for _, jobs in ipairs { "-j0", "-j2" } do
    local err = check(0, '{"A":1}\n', "--json", jobs, script)
    t.match(err, "script\n", "function\n", "program\n")
  end
end

tests["--json prints null and an error for what has no JSON form"] = function()
  local script = t.file [[
local s = fz.stage "s"
s:register("A", {}, function() return {1, {x = -1/0, y = {0/0}}, [4] = function() end} end)
s:register("B", {}, function() local t = {} t.self = t return {t, {[true] = 1}} end)
s:register("C", {}, function() return "\xff" end)
s:register("D", {}, function() return {ok = true} end)
return fz.chain {s}]]
  local err = check(1, '{"A":[1,{"x":null,"y":[null]},null,null],"B":[{"self":null},null],'
    .. '"C":null,"D":{"ok":true},"E":2}\n', "--json", script, "E=2", "F\xff=3")
  t.match(err, "output A[2].x: infinity", "output A[2].y[1]: NaN", "output A[4]: a function",
    "output B[1].self: ", "output B[2]: a key", "output C: a string", "output F\xff: a name")
  local many = t.file [[
local s = fz.stage "s"
s:register("A", {}, function() local t = {} for i = 1, 1000 do t[i] = 1 / 0 end return t end)
return fz.chain {s}]]
  err = check(1, '{"A":[null' .. (",null"):rep(999) .. "]}\n", "--json", many)
  t.match(err, "output A[20]:", "980 more values")
  t.equal(select(2, err:gsub("\n", "")), 21)
end

tests["--input gives many inputs, arguments win"] = function()
  local inputs = t.file '{"A": 10, "B": 3}'
  check(0, "A = 2\nB = 9\nC = 11\nD = 18\n", "--input", inputs, t.file(EXAMPLE), "A=1")
  t.match(check(2, "", "--input", t.file "[1", t.file(EXAMPLE)), "line 1")
  for _, text in ipairs { "[1]", "[]", "[null]", "1" } do
    t.match(check(2, "", "--input", t.file(text), t.file(EXAMPLE)), "not a JSON object")
  end
  check(0, "A = 2\nB = 4\nC = 6\nD = 8\n", "--input", t.file " {}", t.file(EXAMPLE), "A=1", "B=2")
end

tests["outputs print readably and the same every time"] = function()
  local script = t.file [[
local s = fz.stage "s"
s:register("T", {}, function() return {3, 1, b = {x = 1.5}, a = "q\"\n", [10] = true} end)
s:register("LINES", {}, function() return "one\ntwo" end)
s:register("NIL", {}, function() end)
s:register("FLOAT", {}, function() return 2.0 end)
s:register("RAW", {}, function() return "\27[31mred\0é" end)
return fz.chain {s}]]
  local expected = 'T = {3, 1, [10] = true, a = "q\\"\\n", b = {x = 1.5}}\n'
    .. "LINES =\none\ntwo\nNIL = nil\nFLOAT = 2.0\nRAW = \\x1B[31mred\\x00é\n"
  for _ = 1, 3 do check(0, expected, script) end
end

tests["deep, shared and big tables print quickly, cut with dots"] = function()
  local literal = require "fzlua.literal"
  local deep, shared, big = {}, { 1 }, {}
  for _ = 1, 100000 do deep = { deep } end
  for i = 1, 60 do shared = { shared, shared, n = i } end
  for i = 1, 200000 do big[i] = { i, [{ i }] = i } end
  t.match(literal.of(deep), "{...}")
  for _, value in ipairs { shared, big } do
    local text = literal.of(value)
    t.match(text, "...")
    assert(#text < 20000000)
  end
  local exact = {}
  for i = 1, 100000 do exact[i] = i end
  assert(not literal.of(exact):find("...", 1, true))
  t.equal(literal.of { { 1, { 2 } }, [{ 3 }] = { x = "y" } }, '{{1, {2}}, [{3}] = {x = "y"}}')
  local wide = ("x"):rep(40)
  t.equal(literal.of { wide, { wide } },
    ('{\n  "%s",\n  {"%s"},\n}'):format(wide, wide))
end

tests["a script that cannot be loaded is one line and status 1"] = function()
  local wrong = t.file "x = = 1"
  for _, case in ipairs {
    { "nonexistent.lua", "nonexistent.lua" }, { wrong, wrong .. ":1:" },
    { "-e", "]", "(command line):1:" }, { "-l", "nomod", "module 'nomod' not found" },
  } do
    local err = check(1, "", table.unpack(case, 1, #case - 1))
    t.match(err, "fzlua: ", case[#case])
    t.equal(select(2, err:gsub("\n", "")), 1)
  end
  t.match(check(2, "", "--seed", "x"), "--seed", "an integer expected")
  t.match(check(2, "", t.file(ECHO), "IN=@"), "input IN")
  t.match(check(2, "", t.file(ECHO), "IN=@/nonexistent/file"), "input IN", "/nonexistent/file")
end

tests["missing inputs: says which, exits 2"] = function()
  local err = check(2, "", t.file(EXAMPLE), "A=1")
  t.match(err, "missing input B", "clean")
end

tests["--graph prints the graph and runs nothing"] = function()
  local script = t.file(EXAMPLE)
  for _, kind in ipairs { "--graph", "--graph=text" } do
    local _, out = check(0, nil, kind, script)
    t.match(out, "StageChain(clean(1) >> merge(2))", "source_id", "function A")
  end
  local _, out = check(0, nil, "--graph=mermaid", script)
  t.match(out, "flowchart LR", 'subgraph g1["clean"]')
  _, out = check(0, nil, "--json", "--graph=dot", script)
  t.match(out, "digraph {")
  t.match(check(2, "", "--graph=png", script), "png")
  t.match(check(2, "", "--graph", t.file "return 1"), "no chain")
end

tests["an uncaught error of a chain is its text and status 1"] = function()
  local err = check(1, "", t.file(EXAMPLE), "A=x", "B=2")
  t.match(err, "fzlua: stage clean", "output A", "attempt to ",
    "stack traceback:")
end

tests["--on-error continue prints what there is and exits 1"] = function()
  local err = check(1, "B = 4\n", "--on-error", "continue", t.file(EXAMPLE), "A=x", "B=2")
  t.match(err, "output A", "output C", "output D", "not run, because clean.A failed")
end

tests["options act on the invoke"] = function()
  local loop = t.file [[
local s = fz.stage "s"
s:register("A", function(a) while true do end end)
return fz.chain({s}, {timeout = 1000})]]
  t.match(check(1, "", "--timeout", "0.1", loop, "A=1"), "stage s", "output A")
  local random = t.file [[
local s = fz.stage "s"
s:register("A", function() return math.random(1 << 50) end)
return fz.chain {s}]]
  local _, first = check(0, nil, "--seed", "7", random, "A=1")
  check(0, first, "--seed=7", "-j", "0", random, "A=1")
  local count = t.file ""
  local flaky = t.file(([[
local s = fz.stage "s"
s:register("A", function(a)
  local f = io.open(%q, "a") f:write "x" f:close()
  if #io.open(%q):read "a" < 3 then error "again" end
  return a
end)
return fz.chain {s}]]):format(count, count))
  check(0, "A = 1\n", "--retries", "2", flaky, "A=1")
end

tests["each option of a run may be given for a chain that the script returns"] = function()
  local values = { jobs = " 2", ["on_error"] = " stop", engine = " local" }
  local script = t.file [[
local s = fz.stage "s"
function s.A(A) return A + 1 end
return fz.chain { s }]]
  local store = os.tmpname()
  os.remove(store)
  for _, suffix in ipairs { "", "-wal", "-shm" } do t.files[#t.files + 1] = store .. suffix end
  local count = 0
  for _, option in ipairs(require "fzlua.options".list) do
    if option.run then
      local value = option.default and "=" .. store or option.argument
        and (values[option.run] or " 3") or ""
      local out, err, status = t.shell(("$FZLUA %s%s %s A=1 </dev/null"):format(
        option.long or option.short, value, script))
      t.equal({ option.run, out, status }, { option.run, "A = 2\n", 0 })
      assert(err == "" or option.run == "progress", err)
      count = count + 1
    end
  end
  assert(count >= 9)
end

tests["options hold for what the script invokes itself, where it says nothing"] = function()
  local script = t.file [[
local pid = io.open("/proc/self/stat"):read "n"
local s = fz.stage "s"
s:register("A", function() return io.open("/proc/self/stat"):read "n" == pid end)
local chain = fz.chain {s}
print(chain{A = 1}.A, chain({A = 1}, {jobs = 1}).A)]]
  check(0, "true\tfalse\n", "-j0", script)
end

tests["wrong use exits 2 and says what"] = function()
  local err = check(2, "", "-j", "1000000000")
  t.match(err, "-j", "from 0 to 65536", "1000000000")
  t.equal(select(2, err:gsub("\n", "")), 1)
  t.match(check(2, "", "-j"), "-j")
  t.match(check(2, "", "-j", "x", t.file(EXAMPLE)), "-j", "jobs")
  t.match(check(2, "", "--timeout", "-1", t.file(EXAMPLE)), "timeout")
  t.match(check(2, "", t.file(EXAMPLE), "A"), "NAME=VALUE")
  t.match(check(2, "", t.file(EXAMPLE), "--json", "A=1"), "before the script")
end

tests["-e, -l, -W, -- and the table arg are as in lua"] = function()
  check(0, "1\n2\n", "-e", "x = 1 print(x)", "-e", "print(x + 1)")
  check(0, "3\n", "-eprint(3)")
  check(0, "text\n", "-l", "s=string", "-e", "print(s.lower 'TEXT')")
  check(0, "function\n", "-lfzlua", "-e", "print(type(fzlua.stage))")
  t.match(check(0, "", "-W", "-e", "warn 'careful'"), "careful")
  local script = t.file "print(#arg, arg[0] ~= nil, arg[-1], arg[1], arg[2], ...)"
  check(0, "2\ttrue\t-e \ta\t-j\ta\t-j\n", "-e ", script, "a", "-j")
  check(0, "0\ttrue\t--\tnil\tnil\n", "--", script)
end

tests["-e changes what the script gets as its arguments"] = function()
  local script = t.file "print(#arg, ...)"
  check(0, "3\tx\tb\tc\n", "-e", "arg[1], arg[3] = 'x', 'c'", script, "a", "b")
  t.match(check(1, "", "-e", "arg = nil", script, "a"), "'arg' is not a table")
end

tests["an uncaught error of any type says what it is"] = function()
  t.match(check(1, "", "-e", "error(42)"), "fzlua: 42\n")
  t.match(check(1, "", "-e", "error(4.5)"), "fzlua: 4.5\n")
  t.match(check(1, "", "-e", "error {code = 1, 'why'}"), 'fzlua: {"why", code = 1}\n')
  t.match(check(1, "", "-e", "error(print)"), "(error object is a function value)")
  t.match(check(1, "", "-e", "error(setmetatable({}, {__index = function() error() end}))"),
    "fzlua: {}\n")
end

tests["an error leaves coroutine.wrap as it was raised, whatever closes meanwhile"] = function()
  check(0, [[
false	(command line):4: text
false	42
false	closing
false	text
]], "-e", [[local function raise(e, close)
  print(pcall(coroutine.wrap(function()
    local x <close> = setmetatable({}, {__close = close or function() end})
    error(e, e == "text" and not close and 1 or 0) end))) end
raise "text" raise(42) raise("text", function() error("closing", 0) end)
raise("text", function() return 1 end)]])
end

tests["warnings are printed while they are on, in one line from several pieces"] = function()
  local code = [[warn("lost") warn("@on") warn("a", "b", "c") warn("@x") warn("@", "on")
    warn("@off") warn("lost") warn("@on") warn("last")]]
  local out, err, status = t.command("-e", code)
  assert(status == 0 and out == "", err)
  assert(err == "Lua warning: abc\nLua warning: @on\nLua warning: last\n", err)
end

tests["standard input is the script without one, and for -"] = function()
  local out = t.shell [[echo 'print("in", ...)' | "$FZLUA"]]
  t.equal(out, "in\n")
  out = t.shell [[echo 'print("in", arg[0], ...)' | "$FZLUA" - a b]]
  t.equal(out, "in\t-\ta\tb\n")
end

tests["fz is a global and a module, other modules are found"] = function()
  check(0, "true\n", "-e", "print(fz == require 'fzlua')")
  local script = t.file "return {answer = 42}"
  local dir, file = script:match "^(.*)/(.*)$"
  local out = t.shell(([[LUA_PATH='%s/?;;' "$FZLUA" -e 'print(require("%s").answer)']]):format(
    dir, file))
  t.equal(out, "42\n")
end

tests["LUA_INIT is honoured"] = function()
  t.equal(t.shell [[LUA_INIT='x = 7' "$FZLUA" -e 'print(x)']], "7\n")
  t.equal(t.shell(([[LUA_INIT=@%s "$FZLUA" -e 'print(y)']]):format(t.file "y = 8")), "8\n")
  t.equal(t.shell [[LUA_INIT_5_4='x = 1' LUA_INIT='x = 2' "$FZLUA" -e 'print(x)']], "1\n")
end

tests["a script's own error has a traceback and status 1"] = function()
  local err = check(1, "", "-e", "local function f() error 'oops' end f()")
  t.match(err, "fzlua: (command line):1: oops", "stack traceback:")
  t.match(check(1, "", "-e", "error(setmetatable({}, {__tostring = function() return 'obj' end}))"),
    "fzlua: obj\n")
  t.match(check(1, "", "-e", "error({})"), "fzlua: {}\n")
  t.match(check(1, "", "-e", "error(nil)"), "nil")
  t.match(check(1, "", "-e", "x ="), "(command line):1:")
  t.match(check(1, "", "/nonexistent.lua"), "/nonexistent.lua")
end

tests["the exit status of a script is its own"] = function()
  check(7, "out\n", "-e", "io.write 'out\\n' os.exit(7)")
  check(1, "", "-e", "os.exit(false)")
  check(3, "", "-e", "os.exit(3, true)")
end

tests["output that cannot be written is an error"] = function()
  for _, code in ipairs { "print 'x'", "print 'x' os.exit(0)", "io.write(('x'):rep(1 << 20))" } do
    local _, err, status = t.shell(([["$FZLUA" -e "%s" >/dev/full]]):format(code))
    t.equal(status, 1)
    t.equal(err, "fzlua: cannot write standard output: No space left on device\n")
  end
end

tests["output to a closed pipe ends it quietly"] = function()
  local out, err = t.shell [["$FZLUA" -e 'for i = 1, 1e6 do print(i) end' | head -n 1]]
  t.equal({ out, err }, { "1\n", "" })
  out, err = t.shell [[
trap '' PIPE; ("$FZLUA" -e 'for i = 1, 1e5 do print(i) end'; echo $? >&2) | head -n 1]]
  t.equal({ out, err }, { "1\n", "1\n" })
end

tests["the end of a script runs all finalizers, the youngest first"] = function()
  local code = [[
local function ending(name, f)
  return setmetatable({}, { __gc = function()
    io.write(name)
    if f then f() end
  end })
end
kept = { ending "a", ending("b", function() later = ending "x" end) }
ending("c", function() local t = {} for i = 1, 100000 do t[i] = { i } end end)
local closed <close> = setmetatable({}, { __close = function() io.write "d" end })
io.write(("-"):rep(10000))
]]
  local dashes = ("-"):rep(10000)
  check(0, dashes .. "dcba", t.file(code))
  local err = check(1, dashes .. "dcba", t.file(code .. "error 'failed'"))
  t.match(err, "failed")
  check(5, dashes .. "dcba", t.file(code .. "os.exit(5, true)"))
  check(0, "", "-e", "debug.getregistry()[1] = nil collectgarbage()")
end

tests["what a worker prints comes before the call returns, and once"] = function()
  local script = t.file [[
io.write "start\n"
local s = fz.stage "s"
s:register("A", function() print "worker" return 1 end)
fz.chain({s}):invoke{A = 1}
print "after"]]
  check(0, "start\nworker\nafter\n", script)
end

tests["missing inputs and cycles raise before any fork"] = function()
  if not os.execute "command -v strace >/dev/null" then return end
  local cycle = t.file [[local g = fz.dag()
g:add("a", "b", print) g:add("b", "a", print)
return g]]
  for _, case in ipairs { { t.file(EXAMPLE) .. " A=1", 2 }, { cycle, 1 } } do
    local trace = t.file ""
    local _, _, status = t.shell(([[ASAN_OPTIONS=detect_leaks=0 \
      strace -f -qq -e trace=fork,vfork,clone,clone3 -o %s "$FZLUA" %s]]):format(trace, case[1]))
    t.equal({ status, io.open(trace):read "a" }, { case[2], "" })
  end
end

-- Errors whose tracebacks have a function of the script between or above functions of fzlua.
local MISUSES = {
  "local function mine() fz.map(3, {}) end mine()",
  "local function mine() fz.stage 's':register('A', 3) end mine()",
  "local function mine() error 'x' end fz.map(mine, {1}, {jobs = 0, progress = mine})",
  "local function mine() fz.queue(-1) end mine()",
  "local function mine() return fz.pool{workers = 0} end local p = mine() print(p)",
}

-- This chunk fails unless its caller is that of a chunk in lua: a C function without a caller.
local LEVEL = [[
local bottom = debug.getinfo(2)
assert(bottom.what == "C" and bottom.name == nil and not debug.getinfo(3), debug.traceback())
assert(debug.traceback("", 1):match "^\n[^\n]*\n\t[^\n]*: in main chunk\n\t%[C%]: in %?$")
io.write(pcall(debug.getlocal, 4, 1) and "module\n" or "main\n")
]]

tests["a chunk is called at the level where lua calls it"] = function()
  local script = t.file(LEVEL)
  check(0, "main\n", script)
  check(0, "main\n", script, "a", "b")
  check(0, "main\nmain\n", "-e", LEVEL, "-e", LEVEL)
  t.equal({ t.shell(('"$FZLUA" - <%s'):format(script)) }, { "main\n", "", 0 })
  t.equal({ t.shell(('LUA_INIT="@%s" "$FZLUA" -e ""'):format(script)) }, { "main\n", "", 0 })
  t.equal({ t.shell(("LUA_INIT='%s' \"$FZLUA\" -v -e ''"):format(LEVEL:gsub("'", '"'))) },
    { select(2, check(0, nil, "-v")) .. "main\n", "", 0 })
  local module = t.file 'io.write(pcall(debug.getlocal, 4, 1) and "module\\n" or "main\\n")'
  local found = ("package.path = %q"):format(module)
  t.equal(select(2, check(0, nil, "-e", found, "-l", "G=m", "-e", "print(G)")), "module\ntrue\n")
end

tests["a script that asks whether it is the main one may return a chain"] = function()
  check(0, "A = 2\nB = 4\nC = 6\nD = 8\n",
    t.file("if pcall(debug.getlocal, 4, 1) then return end\n" .. EXAMPLE), "A=1", "B=2")
end

tests["a traceback shows the user's frames, with FZLUA_DEBUG=1 all"] = function()
  for _, code in ipairs(MISUSES) do
    local command = ('"$FZLUA" -e "%s"'):format(code)
    local _, err, status = t.shell(command)
    t.equal(status, 1)
    t.match(err, "stack traceback:\n", "(command line):1: in ")
    for line in err:gmatch "\n\t([^\n]*)" do
      if line:find "^fzlua/" or line:find "xpcall" or line:find "in %?" then
        error(("%s\nshows %s"):format(err, line))
      end
    end
    _, err = t.shell("FZLUA_DEBUG=1 " .. command)
    t.match(err, "stack traceback:\n", "[C]: in ?")
  end
  local _, err = t.shell [[FZLUA_DEBUG=1 "$FZLUA" -e "fz.stage 's':register('A', 3)"]]
  t.match(err, "\n\tfzlua/stage.lua:")
end

tests["an error that the script's own call raised says where"] = function()
  local _, err, status = t.command("-e", "local function leave() fz.lock():release() end\nleave()")
  t.equal(status, 1)
  t.match(err, "fzlua: this process does not hold the lock\nstack traceback:",
    "(command line):1: in", "(command line):2: in")
  _, err = t.command("-e", "fz.pool(1):apply(function() error { } end)")
  t.equal(select(2, err:gsub("stack traceback:", "")), 1)
end

return tests
