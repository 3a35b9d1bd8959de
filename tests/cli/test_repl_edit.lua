-- The prompt, on terminals of tmux: keys, history, completion, output while something is typed.

local t = ...
local Terminal = dofile "tests/support/terminal.lua"

local tests = {}

local function open(options) return Terminal.prompt(t, options) end

-- The command at its prompt, started by a shell.
local function open_in_shell()
  local terminal = Terminal.open(t, { command = "sh", env = "NO_COLOR=1 PS1=shell: ENV=" })
  terminal:until_row "^shell:"
  terminal:type '"$FZLUA"'
  terminal:key "Enter"
  terminal:until_row "^>$"
  return terminal
end

tests["an input of several lines is one entry of the history"] = function()
  local terminal <close> = open()
  terminal:type "for i = 1, 2 do"
  terminal:key "Enter"
  terminal:type "print(i)"
  terminal:key "Enter"
  terminal:type "end"
  terminal:key "Enter"
  terminal:expect { "> for i = 1, 2 do", "print(i)", "end", "1", "2", ">" }
  terminal:run("10", "10")
  terminal:key("Up", "Up")
  terminal:expect { "> for i = 1, 2 do", "print(i)", "end" }
  terminal:key("Up", "C-e", "BSpace")
  terminal:type "+ 5)"
  terminal:key "Enter"
  terminal:expect { "> for i = 1, 2 do", "print(i+ 5)", "end", "6", "7", ">" }
end

tests["keys move in the input and change it"] = function()
  local terminal <close> = open()
  terminal:type '"wörld 日本語"'
  terminal:key("Home", "Right")
  terminal:type "hellö "
  terminal:expect { '> "hellö wörld 日本語"' }
  terminal:key("End", "Left", "Left", "BSpace", "Enter")
  terminal:expect { '> "hellö wörld 日語"', '"hellö wörld 日語"', ">" }
  terminal:type "1 + 2"
  terminal:key("M-Enter", "C-u")
  terminal:run("3", "3")
  terminal:type "never run"
  terminal:expect { "> never run" } -- wait for this text, because Ctrl-C also discards unread text
  terminal:key "C-c"
  terminal:expect { "> never run^C", ">" }
  terminal:key "C-r"
  terminal:type "hell"
  terminal:expect { '> "hellö wörld 日語"', "bck:hell" }
  terminal:key("Escape", "Enter")
  terminal:expect { '> "hellö wörld 日語"', '"hellö wörld 日語"', ">" }
  terminal:key "C-d"
  t.equal(terminal:status(), 0)
end

tests["pasted text is one input"] = function()
  local terminal <close> = open()
  terminal:paste "function f(x)\n\treturn x\nend\nreturn f(7)"
  terminal:expect { "> function f(x)", "        return x", "end", "return f(7)" }
  terminal:key "Enter"
  terminal:expect { "return f(7)", "7", ">" }
end

tests["bytes that are not UTF-8 are shown as U+FFFD"] = function()
  local terminal <close> = open()
  terminal:paste "'a\xffb\xc3c\xe2\x82d ä€'"
  terminal:expect { "> 'a\u{fffd}b\u{fffd}c\u{fffd}d ä€'" }
  terminal:key "Enter"
  terminal:expect { '"a\u{fffd}b\u{fffd}c\u{fffd}d ä€"', ">" }
end

tests["a long input wraps, and the terminal may be resized"] = function()
  local terminal <close> = open { columns = 30 }
  terminal:type "x = '0123456789 0123456789 0123456789'"
  terminal:expect { "> x = '0123456789 0123456789 0", "123456789'" }
  terminal:resize(50, 20)
  terminal:expect { "> x = '0123456789 0123456789 0123456789'" }
  terminal:resize(20, 20)
  terminal:type " y = 1"
  terminal:expect { "> x = '0123456789 01", "23456789 0123456789'", " y = 1" }
  terminal:key "Enter"
  terminal:expect { " y = 1", ">" }
end

tests["Tab completes names, and lists them"] = function()
  local terminal <close> = open { rows = 50 }
  terminal:run "chain = fz.chain{fz.stage 's'}"
  terminal:run "lib = setmetatable({alpha = 1, alpine = 2}, {__index = {base = 3}})"
  for typed, completed in pairs {
    ["fz.starm"] = "fz.starmap", ["chain:to_m"] = "chain:to_mermaid", ["lib.ba"] = "lib.base",
    ["lib.al"] = "lib.alp", ["string.form"] = "string.format", ["('x'):upp"] = "('x'):upper",
    ["fz.log.war"] = "fz.log.warn", ["whi"] = "while", ["chain.outp"] = "chain.output",
    ["chain:rawe"] = "chain:rawe", -- only methods are completed, and not the global rawequal
    ["chain:outp"] = "chain:outp", ["fz:starm"] = "fz:starm", -- fields are not completed
    ["chain:inv"] = "chain:invoke",
    ["require 'fzl"] = "require 'fzlua", [":tra"] = ":trace", ["x = setm"] = "x = setmetatable",
    ["fz.queue():"] = "fz.queue():", ["io.stdout:see"] = "io.stdout:seek",
  } do
    terminal:type(typed)
    terminal:key "Tab"
    terminal:expect { "> " .. completed }
    terminal:key "C-u"
    terminal:expect { ">" }
  end
  terminal:type "lib.alp"
  terminal:key "Tab"
  terminal:expect { "alpha   alpine", "> lib.alp" }
  terminal:key "C-u"
  terminal:type "fz.map"
  terminal:key "Tab"
  terminal:expect { "fz.map(f, list [, options]) -> results", "> fz.map" }
  terminal:key "C-u"
  terminal:type "chain:invoke_async"
  terminal:key "Tab"
  terminal:expect { "chain:invoke_async([input] [, options]) -> future", "> chain:invoke_async" }
end

tests["Tab completes files in strings"] = function()
  local terminal <close> = open {
    before = "mkdir data; echo x >data/first.txt; echo 'return 1' >mymod.lua",
  }
  for typed, completed in pairs {
    ["io.open('da"] = "io.open('data/", ['x = "data/fi'] = 'x = "data/first.txt',
    ["require 'mym"] = "require 'mymod", [":load mym"] = ":load mymod.lua",
  } do
    terminal:type(typed)
    terminal:key "Tab"
    terminal:expect { "> " .. completed }
    terminal:key "C-u"
    terminal:expect { ">" }
  end
end

tests["Tab runs no code of the user"] = function()
  local terminal <close> = open()
  terminal:run "trap = setmetatable({}, {__index = function() called = true end})"
  terminal:type "trap.x.y"
  terminal:key("Tab", "C-u")
  terminal:run("called", "nil")
end

tests["tasks, workers and the log print above what is typed"] = function()
  local terminal <close> = open()
  terminal:run("go = fz.event()")
  terminal:run("pool = fz.pool(1)")
  terminal:run("function f() go:wait() print 'from a worker' end")
  terminal:run("pool:apply_async(f)", "<future: pending>")
  terminal:run("fz.spawn(function() go:wait() print 'from a task' io.write 'partial' end)",
    "<future: pending>")
  local continue = terminal:spawn_late "go:set()"
  terminal:type "'typed meanwhile"
  terminal:until_row "^> 'typed meanwhile"
  continue()
  terminal:until_row "from a worker"
  terminal:until_row "from a task"
  terminal:until_row "^partial"
  terminal:type "'"
  terminal:key "Enter"
  terminal:expect { "> 'typed meanwhile'", '"typed meanwhile"', ">" }
  local rows = terminal:rows()
  t.equal(table.concat(rows, "\n"):match "typed meanwhile.*typed meanwhile.*typed meanwhile", nil)
end

tests["progress lines stay above the prompt"] = function()
  local terminal <close> = open()
  terminal:run "pool, go = fz.pool(1), fz.event()"
  terminal:run "function f(x) if x == 3 then go:wait() end return x end"
  terminal:type "r = pool:map_async(f, {1, 2, 3, 4}, {progress = true})"
  terminal:key "Enter"
  terminal:until_row "^pool:map_async +%[=+> +%] +2/4"
  terminal:type "go:set"
  terminal:until_row "^> go:set$"
  local rows = terminal:rows()
  t.equal(rows[#rows], "> go:set")
  t.match(rows[#rows - 1], "pool:map_async  [")
  terminal:type "()"
  terminal:key "Enter"
  terminal:until_row "^pool:map_async: done, 4/4"
  terminal:run("r:get()", "{1, 2, 3, 4, n = 4}")
  for _, row in ipairs(terminal:rows()) do assert(not row:find "%[=", row) end
end

tests["a killed worker is replaced while the prompt waits"] = function()
  local terminal <close> = open()
  terminal:run "pool = fz.pool(1)"
  terminal:run("pool:apply(math.abs, -1)", "1")
  terminal:type "pid = pool.workers[1] return pid"
  terminal:key "Enter"
  local pid = terminal:until_row "^(%d%d+)$"
  t.shell("kill -9 " .. pid)
  terminal:run("pool:apply(math.abs, -2)", "2")
  terminal:run("pool.workers[1] ~= pid", "true")
end

tests["Ctrl-Z stops the prompt, and fg continues it"] = function()
  local terminal <close> = open_in_shell()
  terminal:type "1 + "
  terminal:expect { "> 1 +" }
  terminal:key "C-z"
  terminal:until_row "Stopped"
  terminal:type "stty -a | grep -o ' icanon'; fg"
  terminal:key "Enter"
  terminal:until_row "^ icanon"
  terminal:expect { "> 1 +" }
  terminal:type "2"
  terminal:key "Enter"
  terminal:expect { "> 1 + 2", "3", ">" }
end

tests["the terminal has its modes while code runs, and after a signal"] = function()
  local terminal <close> = open_in_shell()
  terminal:type "name = io.read()"
  terminal:key "Enter"
  terminal:type "somebody"
  terminal:key "Enter"
  terminal:until_row "^>$"
  terminal:run("name", '"somebody"')
  terminal:run "kill = 'kill -TERM ' .. fz.current_process().pid"
  terminal:type "fz.spawn(function() fz.sleep(0.1) os.execute(kill) end)"
  terminal:key "Enter"
  terminal:until_row "^Terminated"
  terminal:type "stty -a | grep -o ' icanon'"
  terminal:key "Enter"
  terminal:until_row "^ icanon"
end

return tests
