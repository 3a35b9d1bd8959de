-- The prompt, on terminals of tmux: commands, history, the user's file, -i, simple terminals.

local t = ...
local Terminal = dofile "tests/support/terminal.lua"

local tests = {}

local function open(options) return Terminal.prompt(t, options) end

-- A list with an empty directory, which is removed when the variable with the list is closed.
local function new_home()
  return setmetatable({ Terminal.new_home(t) },
    { __close = function(self) Terminal.remove_home(t, self[1]) end })
end

tests[":help shows the commands, and entries of the manual"] = function()
  local terminal <close> = open { rows = 60 }
  terminal:type ":help"
  terminal:key "Enter"
  terminal:until_row "^  :graph EXPR +the picture"
  terminal:clear()
  terminal:type ":help fz.now"
  terminal:key "Enter"
  terminal:until_row "^`fz%.now%(%)"
  terminal:run(":help fz.mapp", "no help for fz.mapp", "near: fz.map, stage:map")
  terminal:run(":hepl", "there is no :hepl; perhaps :help")
end

tests[":time shows the value and how long it took"] = function()
  local terminal <close> = open()
  terminal:type ":time fz.exec{'sleep', '0.1'}.exitcode"
  terminal:key "Enter"
  local all, own = terminal:until_row "^(%d+%.%d%d%d) s, (%d+%.%d%d%d) s of this process"
  assert(tonumber(all) >= 0.1 and tonumber(own) < tonumber(all), all)
  terminal:until_row "^0$"
  terminal:run(":time", "an expression is missing")
  terminal:run(":time error 'no'", "stdin:1: no")
end

tests[":reset forgets globals and modules"] = function()
  local terminal <close> = open { before = "echo 'return {}' >mymod.lua" }
  terminal:run "x, print = require 'mymod', nil"
  terminal:run(":reset")
  terminal:run("x, package.loaded.mymod, print ~= nil", "nil     nil     true")
end

tests[":load, :save and :edit"] = function()
  local terminal <close> = open {
    before = "echo 'y = 7 return y' >file.lua",
    env = "NO_COLOR=1 VISUAL='sed -i s/old/new/'",
  }
  terminal:run(":load file.lua", "7")
  terminal:run("y", "7")
  terminal:run(":load none.lua", "cannot open none.lua: No such file or directory")
  terminal:run "function f() return 'old' end"
  terminal:run("error()", "nil")
  terminal:run ":edit f"
  terminal:run("f()", '"new"')
  terminal:run(":save saved.lua", "4 inputs written to saved.lua")
  terminal:run("for line in io.lines 'saved.lua' do print(line) end", "y",
    "function f() return 'old' end", "function f() return 'new' end", "f()")
  terminal:run(":save /dev/full", "/dev/full: No space left on device")
end

tests[":edit says why its temporary file cannot be written"] = function()
  local terminal <close> = open { before = "ulimit -f 0", env = "NO_COLOR=1 VISUAL=true" }
  terminal:type ":edit"
  terminal:key "Enter"
  terminal:until_row "^/tmp/lua_%w+%.lua: File too large$"
end

tests["the history is kept, and sessions share it"] = function()
  local home <close> = new_home()
  do
    local first <close> = open { home = home[1] }
    first:run("'of the first'", '"of the first"')
    first:type "do"
    first:key("Enter", "Enter")
    first:type "end"
    first:key "Enter"
    first:until_row "^end$"
    first:until_row "^>$"
    first:key "C-d"
    t.equal(first:status(), 0)
  end
  local path = home[1] .. "/.local/state/fzlua/history"
  t.shell("printf torn >>" .. path) -- as if a session was killed during a write
  local second <close> = open { home = home[1] }
  second:run("'of the second'", '"of the second"')
  second:key("Up", "Up", "Up")
  second:expect { "> do", "", "end" }
  second:key("Up", "Up", "Up", "Enter")
  second:expect { "> 'of the first'", '"of the first"', ">" }
  local file <close> = assert(io.open(path))
  t.equal(file:read "a", "'of the first'\ndo\\n\\nend\ntorn\n'of the second'\n'of the first'\n")
end

-- Inputs of one session: short lines, and between them several lines that need more than one write.
local function numbered_inputs(session, n)
  local list = {}
  for i = 1, n do
    local text = i % 2 == 0 and (("x"):rep(3000) .. "\n"):rep(3) or "\\"
    list[i] = ("x = [[session %d input %d %s]]"):format(session, i, text)
  end
  return list
end

-- Raise unless the file has the inputs of both sessions whole and in their order.
local function check_inputs(path, sessions)
  local next_of, rest = { 1, 1 }, {}
  for line in io.lines(path) do
    local session = tonumber(line:match "^x = %[%[session (%d)")
    if session then
      local expected = sessions[session][next_of[session]]
      t.equal(line, (expected:gsub("[\\\n]", { ["\\"] = "\\\\", ["\n"] = "\\n" })))
      next_of[session] = next_of[session] + 1
    else
      rest[#rest + 1] = line
    end
  end
  t.equal(next_of, { #sessions[1] + 1, #sessions[2] + 1 })
  return rest
end

-- Code that makes the prompt treat its input as a terminal.
local AS_TERMINAL = [[
local repl = require "fzlua.repl"
local run = repl.run
function repl.run(options, arguments, host, ...)
  host.input_is_terminal = function() return true end
  return run(options, arguments, host, ...)
end]]

tests["inputs of a file are not kept in the history"] = function()
  local home <close> = new_home()
  local out, err, status = t.shell(("echo 'x = 1' | XDG_STATE_HOME=%s \"$FZLUA\" -i; ls %s")
    :format(home[1], home[1]))
  t.equal({ err, status }, { "", 0 })
  assert(not out:find("fzlua\n", 1, true), "the directory of the history was made")
end

tests["sessions that write at the same moment lose and tear nothing"] = function()
  local home <close> = new_home()
  local path, n = home[1] .. "/fzlua/history", t.rounds(300)
  local sessions = { numbered_inputs(1, n), numbered_inputs(2, n) }
  t.shell("mkdir " .. home[1] .. "/fzlua")
  local file = assert(io.open(path, "wb"))
  for i = 1, 1201 do file:write("old ", i, "\n") end
  file:close()
  local _, err, status = t.shell(([[export XDG_STATE_HOME=%s
    start() { "$FZLUA" -e '%s' -i; }
    start <%s >/dev/null & first=$!
    start <%s >/dev/null & second=$!
    while kill -0 $first || kill -0 $second; do start </dev/null; done >/dev/null 2>&1
    wait $first && wait $second]]):format(home[1], AS_TERMINAL,
    t.file(table.concat(sessions[1], "\n") .. "\n"),
    t.file(table.concat(sessions[2], "\n") .. "\n")))
  t.equal({ err, status }, { "", 0 })
  local rest = check_inputs(path, sessions)
  t.equal(rest[#rest], "old 1201")
  assert(#rest < 1201, "the file was not shortened")
end

tests["a home that cannot be written is no error"] = function()
  for _, env in ipairs { "HOME=/proc/none", "HOME=", "XDG_STATE_HOME=/dev/null" } do
    local terminal <close> = open { env = "NO_COLOR=1 " .. env }
    terminal:run("1", "1")
    terminal:key("Up", "Enter")
    terminal:expect { "> 1", "1", ">" }
  end
end

tests["the user's file runs first, and its error is shown"] = function()
  local config = "mkdir -p .config/fzlua other/fzlua; echo 'mine = 5' >.config/fzlua/init.lua; " ..
    "echo 'mine = 6 error \"wrong\"' >other/fzlua/init.lua"
  local terminal <close> = open { before = config }
  terminal:run("mine", "5")
  local other <close> = open { before = config, env = "NO_COLOR=1 XDG_CONFIG_HOME=$PWD/other" }
  other:until_row "fzlua/init.lua:1: wrong"
  other:run("mine", "6")
end

tests["-i keeps the script's globals, and what it returned"] = function()
  local script = t.file [[
    stage = fz.stage "only"
    function stage.out(a) return a end
    return fz.chain{stage}
  ]]
  local terminal <close> = open { arguments = "-i " .. script }
  terminal:run("_", "only", "  input  a missing", "  only   out(a)")
  terminal:run("stage.name", '"only"')
  local code <close> = open { arguments = "-i -e 'x = 1'" }
  code:run("x", "1")
end

-- A script that returns a stage with two outputs.
local CHAIN <const> = [[
only = fz.stage "only"
function only.out(a) return a + 1 end
function only.other(a) return -a end
return only]]

tests["-i with inputs runs the chain before the prompt"] = function()
  local script = t.file(CHAIN)
  local terminal <close> = open { arguments = "-i " .. script .. " a=1" }
  terminal:expect { "out = 2", "other = -1", "a = 1", ">" }
  terminal:run("_.output.out", "2")
  local file <close> = open {
    arguments = "-i --only=out --input in.json " .. script, before = [[echo '{"a": 5}' >in.json]],
  }
  file:expect { "out = 6", ">" }
end

tests["an error of the chain that -i runs is shown at the prompt"] = function()
  local script = t.file(CHAIN)
  for arguments, message in pairs {
    [" a=x"] = "^stage only, .*: attempt to ",
    [" a=1 b"] = "^b: an input has the form NAME=VALUE",
    [" --only=x"] = "^%-%-only=x: options come before the script",
    [" b=1"] = "^missing input a %(read for only.out%)",
  } do
    local terminal <close> = open { arguments = "-i " .. script .. arguments, columns = 200 }
    terminal:until_row(message)
    terminal:run("_{a = 1}.out", "2")
  end
  local forgotten = t.file(CHAIN:gsub("return only$", ""))
  local terminal <close> = open { arguments = "-i " .. forgotten .. " a=1", columns = 200 }
  terminal:until_row "^inputs are given but the script returned no chain"
  terminal:run("only.name", '"only"')
  local none <close> = open { arguments = "-i --only=a " .. t.file "", columns = 200 }
  none:until_row "^%-%-only: the script returned no chain"
end

tests["Ctrl-C stops the chain that -i runs"] = function()
  local script = t.file [[
local s = fz.stage "s"
function s.out(a) print "begun" while a do end end
return s]]
  local terminal <close> = Terminal.open(t, { arguments = "-i " .. script .. " a=true" })
  terminal:until_row "^begun"
  terminal:key "C-c"
  terminal:expect { "^Cinterrupted", ">" }
  terminal:run("1", "1")
end

for _, term in ipairs { "dumb", "nonexistent" } do
  tests["a terminal of type " .. term .. " reads plain lines"] = function()
    local terminal <close> = open { term = term, env = "A=1" }
    terminal:run("1 + 1", "2")
    terminal:type "for i = 1, 2 do"
    terminal:key "Enter"
    terminal:until_row "^>>$"
    terminal:type "print(i) end"
    terminal:key "Enter"
    terminal:expect { "> for i = 1, 2 do", ">> print(i) end", "1", "2", ">" }
    terminal:type "while true do"
    terminal:expect { "> while true do" }
    terminal:key "C-c"
    terminal:expect { "> while true do^C", ">" }
    terminal:type "print 'running' while true do end"
    terminal:key "Enter"
    terminal:until_row "^running"
    terminal:key "C-c"
    terminal:expect { "^Cinterrupted", ">" }
    terminal:run("error 'red'", "stdin:1: red")
    t.equal(terminal:rows(true), terminal:rows())
    terminal:spawn_late "print 'from a task'" ()
    terminal:until_row "^> from a task"
    terminal:key "C-d"
    t.equal(terminal:status(), 0)
  end
end

tests["errors and values have colours unless NO_COLOR is set"] = function()
  local terminal <close> = open { env = "A=1" }
  terminal:run("error 'red'", "stdin:1: red")
  terminal:run("'green'", '"green"')
  local text = table.concat(terminal:rows(true), "\n")
  t.match(text, "\27[31mstdin:1: red", '\27[32m"green"', "\27[1m\27[32m>")
  local plain <close> = open { env = "NO_COLOR=1" }
  plain:run("error 'red'", "stdin:1: red")
  t.equal(plain:rows(true), plain:rows())
end

tests["without a terminal -i reads lines, and the script is standard input"] = function()
  local out, err, status = t.shell [[printf 'x = 1\nx + 1\n' | HOME=/none "$FZLUA" -i]]
  t.equal(out:gsub("^[^\n]*\n", ""), "> > 2\n> \n")
  t.equal({ err, status }, { "", 0 })
  t.equal({ t.shell [[printf 'print(1) return 5' | "$FZLUA"]] }, { "1\n", "", 0 })
end

tests["without a terminal -i prints as lua does: by print, errors to standard error"] = function()
  local out, err, status = t.shell [[
printf '"a b", {1} == nil\nlocal x = 1\nexit\n= 1 +\n2\nerror "no"\nprint = nil\n7\n:quit\n' |
  HOME=/none "$FZLUA" -e "_PROMPT='' _PROMPT2=''" -i]]
  t.equal(out:gsub("^[^\n]*\n", ""), "a b\tfalse\nnil\n3\n\n")
  t.equal({ err, status }, { "stdin:1: no\nerror calling 'print' (attempt to call a nil value)\n"
    .. "there is no :quit; :help helps, Ctrl-D leaves\n", 0 })
end

tests["the end waits for tasks, and os.exit ends at once"] = function()
  local terminal <close> = open()
  local continue = terminal:spawn_late "print 'last'"
  terminal:key "C-d"
  terminal:until_row "^waiting for 1 tasks; Ctrl%-C ends them"
  continue()
  terminal:until_row "^last"
  t.equal(terminal:status(), 0)
  local other <close> = open()
  other:type "os.exit(3)"
  other:key "Enter"
  t.equal(other:status(), 3)
end

return tests
