local t = ...
local tests = {}

local SCRIPT = [[
local clean = fz.stage "clean"
clean:register("A", function(a) return a + 1 end)
clean:register("B", function(b) return b * b end)
local merge = fz.stage "merge"
merge:register("C", {"A", "B"}, function(a, b) return a + b end)
function merge.D(A, Z) return A * Z end
local chain = clean >> merge
chain.input = {Z = "one\ntwo"}
return chain
]]

-- Run the command; its status and output must be these. Returns what is on standard error.
local function check(status, out, ...)
  local got, err, code = t.command(...)
  if code ~= status then error(("status %d: %s%s"):format(code, got, err), 2) end
  if got ~= out then error(("expected %q\ngot %q"):format(out, got), 2) end
  return err
end

tests["--only runs what these outputs need, and prints only them"] = function()
  local script = t.file(SCRIPT)
  t.equal(check(0, "C = 6\n", "--only", "C", script, "A=1", "B=2"), "")
  t.equal(check(0, "A = 2\n", "--only=A", script, "A=1"), "")
  t.equal(check(0, "A = 2\nC = 6\n", "--only", "C,A", script, "A=1", "B=2"), "")
  check(0, '{"B":4,"X":5}\n', "--json", "--only=B,X", script, "B=2", "X=5")
  t.match(check(2, "", "--only=C", script, "A=1"), "missing input B")
end

tests["--only: a name that is no output is an error that names the nearest one"] = function()
  local script = t.file(SCRIPT)
  local err = check(2, "", "--only", "CC,E,A", script, "A=1", "B=2")
  t.match(err, "no output CC (the nearest is C)", "no output E")
  t.match(check(2, "", "--only", "a", t.file "return fz.dag()"), "no output a\n")
  t.match(check(2, "", "--only", ",", script), "no output is named")
  t.match(check(2, "", "--only", "A", t.file "return 1"), "--only", "no chain")
end

tests["--inputs lists names, readers and values, and runs nothing"] = function()
  local script = t.file(SCRIPT)
  t.equal(check(0, [[
input  read_by  value
A      clean.A  "1.50"
B      clean.B
Z      merge.D  "one\ntwo"
X               {1, {a = 2}}
]], "--inputs", script, "A=1.50", 'X=[1,{"a":2}]'), "")
  t.equal(check(0, [[
input  read_by  value
A      clean.A
Z      merge.D  true
]], "--inputs", "--json", "--only=D", script, "Z=true"), "")
  t.equal(check(0, [[
input  read_by  value
x      a, b
]], "--inputs", t.file [[local g = fz.dag()
g:add("a", "x", os.exit) g:add("b", {"a", "x"}, os.exit)
return g]]), "")
  t.match(check(2, "", "--inputs", t.file "return 1"), "--inputs", "no chain")
end

tests["-E ignores the environment of Lua"] = function()
  local code = t.file [[
assert(not package.path:find "lost" and not package.cpath:find "lost")
assert(require("string") == string and package == require "package")
print(#require "fzlua.json".encode {}, fz.map(function() return package.path end,
  {1})[1] == package.path)]]
  local out = t.shell(([[LUA_PATH=lost LUA_CPATH_5_4='lost;;' LUA_INIT='print "lost"' \
    "$FZLUA" -E %s]]):format(code))
  t.equal(out, "2\ttrue\n")
end

return tests
