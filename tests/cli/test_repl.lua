-- The prompt, on terminals of tmux: values, errors, pipelines, Ctrl-C, commands.

local t = ...
local Terminal = dofile "tests/support/terminal.lua"

local tests = {}

local function open(options) return Terminal.prompt(t, options) end

tests["values are printed as literals, and the first one is _"] = function()
  local terminal <close> = open()
  terminal:expect { fz.version or terminal:rows()[1], ">" }
  terminal:run("1 + 1", "2")
  terminal:run("_ * 3, _", "6       2")
  terminal:run("= 7, 8", "7       8")
  terminal:run('"a\\n", nil, 1.5', '"a\\n"   nil     1.5')
  terminal:run("{1, {x = {}}, y = 'z'}", '{1, {x = {}}, y = "z"}')
  terminal:run "x = {}"
  terminal:run("x.x = x x.y = {{{{{}}}}} return x", "{x = <cycle>, y = {{{{...}}}}}")
  terminal:run("string.rep('a', 20), function(a, ...) end",
    '"aaaaaaaaaaaaaaaaaaaa"  function(a, ...) stdin:1')
  terminal:run "nothing = nil return"
  terminal:run("print 'p'", "p")
end

tests["long tables are cut and fit the terminal"] = function()
  local terminal <close> = open { columns = 40, rows = 60 }
  terminal:run "long = {}"
  terminal:run "for i = 1, 1e6 do long[i] = i end"
  terminal:run "s = '0123456789'"
  terminal:run("{s, s, s}", "{", '  "0123456789",', '  "0123456789",',
    '  "0123456789",', "}")
  terminal:type "long"
  terminal:key "Enter"
  terminal:expect { "  ...,", "}", ">" }
end

tests["an error shows the user's frames, and :trace all"] = function()
  local terminal <close> = open()
  terminal:run("error 'plain'", "stdin:1: plain")
  terminal:run("1 +* 2", "stdin:1: unexpected symbol near '1'")
  terminal:run "function f(x) error(x) end"
  terminal:run "function g(x) f(x) end"
  terminal:run("g 'deep'", "stdin:1: deep", "        stdin:1: in function 'f'",
    "        stdin:1: in function 'g'")
  terminal:run(":trace", "stdin:1: deep", "stack traceback:", "        [C]: in function 'error'",
    "        stdin:1: in function 'f'", "        stdin:1: in function 'g'",
    "        stdin:1: in main chunk")
  terminal:run("error {code = 1}", "{code = 1}")
  terminal:run("error(setmetatable({}, {__tostring = function() return 'own' end}))", "own")
end

tests["a value whose metamethods raise is shown as it is"] = function()
  local terminal <close> = open()
  terminal:run "function no() error 'no' end"
  terminal:run("fz.future()", "<future: pending>") -- loads a class that the prompt looks for
  for _, name in ipairs { "__index", "__pairs", "__len", "__eq", "__name" } do
    terminal:run(("setmetatable({a = 1}, {%s = no})"):format(name), "{a = 1}")
  end
  local mark = "  (its __tostring raises an error)"
  terminal:run("setmetatable({a = 1}, {__tostring = no})", "{a = 1}" .. mark)
  terminal:run("setmetatable({a = 1}, {__tostring = 5})", "{a = 1}" .. mark)
  terminal:run("debug.setmetatable(io.tmpfile(), {__tostring = no})", "<userdata>" .. mark)
end

-- A chain whose first input is missing.
local CHAIN = {
  "clean = fz.stage 'clean'", "function clean.A(A) return A + 1 end",
  "function clean.B(B) return B * B end", "merge = fz.stage 'merge'",
  "function merge.C(A, B) return A + B end", "chain = clean >> merge",
}

tests["a chain is a picture with its missing inputs, its outputs and edges"] = function()
  local terminal <close> = open { rows = 60 }
  for _, line in ipairs(CHAIN) do terminal:run(line) end
  terminal:run("chain", "clean >> merge", "  input  A missing  B missing", "  clean  A(A)  B(B)",
    "  merge  C(A, B)")
  terminal:run("chain:invoke{A = 1, B = 2}", "clean >> merge", "  input   A = 1  B = 2",
    "  clean   A(A)  B(B)", "  merge   C(A, B)", "  output  A = 2  B = 4  C = 6")
  terminal:run("clean", "clean", "  input  A missing  B missing", "  clean  A(A)  B(B)")
  terminal:run("_.output.C, chain.output.C", "nil     6")
  terminal:run(":graph merge >> fz.stage 'end'", "merge >> end", "  input  A missing  B missing",
    "  merge  C(A, B)", "  end", "source_id  source_ele  target_id  target_ele",
    "        0  function C          0  C", "       -1  A                   0  function C",
    "       -1  B                   0  function C")
  terminal:run("clean >> clean", "stage clean is in the chain twice")
  terminal:run("(merge >> fz.stage 'end').edge_table",
    "source_id  source_ele  target_id  target_ele", "        0  function C          0  C",
    "       -1  A                   0  function C", "       -1  B                   0  function C")
  terminal:run("g = fz.dag() g:add('c', {'a', 'b'}, print) return g", "dag",
    "  input  a missing  b missing", "  nodes  c(a, b)")
end

tests["a redefined function is used by the next call"] = function()
  local terminal <close> = open()
  for _, line in ipairs(CHAIN) do terminal:run(line) end
  terminal:run("chain{A = 1, B = 2}", "{A = 2, B = 4, C = 6}")
  terminal:run "function clean.A(A) return A + 100 end"
  terminal:run("chain{A = 1, B = 2}", "{A = 101, B = 4, C = 105}")
  terminal:run "g = fz.dag()"
  terminal:run "_ = g:add('c', 'a', function(a) return a end)"
  terminal:run "_ = g:add('c', 'a', function(a) return -a end)"
  terminal:run("g{a = 1}", "{c = -1}")
  terminal:run "k, f = 3, function(x) return x * k end"
  terminal:run "pool = fz.pool(2)"
  terminal:run("pool:map(f, {1, 2})", "{3, 6, n = 2}")
  terminal:run "f = function(x) return -x end"
  terminal:run("pool:map(f, {1, 2})", "{-1, -2, n = 2}")
  terminal:run "local j = 2 f = function(x) return x * j end"
  terminal:run("pool:map(f, {1, 2})", "{2, 4, n = 2}")
end

tests["a local is gone, and an error that this leads to says so"] = function()
  local terminal <close> = open()
  terminal:run("local k <close>, j = nil, 3 -- why",
    "a local variable ends with its input; for a global one write: k, j = nil, 3")
  terminal:run "local k = 4"
  terminal:run "local function f() end"
  terminal:run("k.x", "stdin:1: attempt to index a nil value (global 'k')",
    "k was a local, which ended with its input: define it without 'local'")
  terminal:run("fz.map(f, {1})",
    "stdin:1: bad argument #1 to 'fz.map' (function expected, got no value)",
    "f was a local, which ended with its input: define it without 'local'")
  terminal:run "f = 5"
  terminal:run("fz.map(f, {1})",
    "stdin:1: bad argument #1 to 'fz.map' (function expected, got number)")
  terminal:run("_ENV, kk = _ENV error 'no'", "stdin:1: no")
end

tests["after an error a name that the library lacks is named with the nearest"] = function()
  local terminal <close> = open()
  terminal:run("fz.mapp({}, print)", "stdin:1: attempt to call a nil value (field 'mapp')",
    "there is no fz.mapp; perhaps fz.map")
  terminal:run("fz.xyzzy()", "stdin:1: attempt to call a nil value (field 'xyzzy')",
    "there is no fz.xyzzy")
  terminal:run("fz.map(fz.nothing)",
    "stdin:1: bad argument #1 to 'fz.map' (function expected, got no value)",
    "there is no fz.nothing")
  terminal:run("fz.mapp", "nil")
end

tests["the usual words for leaving or help show a hint"] = function()
  local terminal <close> = open()
  t.match(terminal:rows()[1], ":help helps, Ctrl-D leaves")
  local hint = ":help helps, Ctrl-D leaves"
  for _, text in ipairs { "exit", "quit()", "help" } do terminal:run(text, hint) end
  terminal:run(":quit", "there is no :quit; " .. hint)
  terminal:run(":xyzzy", "there is no :xyzzy; " .. hint)
  terminal:run "function exit() return 'mine' end"
  terminal:run("exit()", '"mine"')
end

tests["futures show their state"] = function()
  local terminal <close> = open()
  terminal:run "f = fz.future()"
  terminal:run("f", "<future: pending>")
  terminal:run "f:set_result(1, 'a')"
  terminal:run("f", '<future: 1, "a">')
  terminal:run("pool = fz.pool(1) return pool:apply_async(error, {'no'})", "<future: pending>")
  terminal:run("_:wait() return _", "<future: no>")
end

tests["Ctrl-C stops what runs, and workers go on"] = function()
  local terminal <close> = open()
  terminal:type "print 'running' while true do end"
  terminal:key "Enter"
  terminal:until_row "^running"
  terminal:key "C-c"
  terminal:expect { "> print 'running' while true do end", "running", "^Cinterrupted", ">" }
  terminal:run "pool = fz.pool(2)"
  terminal:run("pool:map(math.abs, {-1, -2})", "{1, 2, n = 2}")
  terminal:type "pool:map(function() print 'begun' while true do end end, {1})"
  terminal:key "Enter"
  terminal:until_row "^begun"
  terminal:key "C-c"
  terminal:until_row "interrupted"
  terminal:until_row "^>$"
  terminal:clear()
  terminal:run("pool:map(math.abs, {-1, -2})", "{1, 2, n = 2}")
  terminal:run("#pool.workers", "2")
end

tests["the prompt may end the wait of a task, but no wait of its own"] = function()
  local terminal <close> = open()
  terminal:run "q = fz.queue()"
  terminal:run "task = fz.spawn(function() return q:get() end)"
  t.sleep(0.4)
  terminal:run("q:put(5)", "true")
  terminal:run("task:await()", "5")
  terminal:run("q:get()", "deadlock: nothing can end the wait for an item of a queue or pipe")
end

return tests
