local t = ...
local tests = {}

local help = require "fzlua.help"
local options = require "fzlua.options"

-- Run the command; its status must be this, and one of its outputs empty.
local function check(status, ...)
  local out, err, code = t.command(...)
  if code ~= status then error(("status %d: %s%s"):format(code, out, err), 2) end
  assert(out == "" or err == "", out .. err)
  return out .. err
end

tests["-h fits on one screen and names every option"] = function()
  local text = check(0, "-h")
  local _, lines = text:gsub("\n", "")
  assert(lines <= 23, lines)
  for line in text:gmatch "[^\n]+" do assert(#line <= 80, line) end
  for name in pairs(options.named) do t.match(text, name) end
end

tests["--help says what every option does, with examples that the command reads"] = function()
  local text = check(0, "--help")
  for name, option in pairs(options.named) do t.match(text, name, option.help) end
  for _, option in ipairs(options.list) do t.match(text, help.name(option) .. " ") end
  for line in text:gmatch "[^\n]+" do assert(#line <= 96, line) end
  local examples = text:match "Examples:\n(.-)\n\n"
  local script = t.file "return fz.stage 's'"
  for example in examples:gmatch "fzlua (.-)   +%l[^\n]*" do
    example = example:gsub("pipeline.lua", script):gsub("FILE", script)
    local _, err, status = t.shell('"$FZLUA" ' .. example)
    t.equal({ err:gsub("warning[^\n]*", ""):gsub("fzlua: ", ""):gsub("\n", ""), status },
      { "", 0 })
  end
end

tests["--version and -v"] = function()
  t.match(check(0, "--version"), "fzlua ", "Lua 5.4")
  t.equal(check(0, "-v"), check(0, "--version"))
end

tests["a wrong option names the nearest one"] = function()
  for _, case in ipairs { { "--jsn", "--json" }, { "--Json", "--json" },
    { "--on_error=stop", "--on-error" }, { "--retires=3", "--retries" },
    { "--quiet=1", "--quiet" }, { "--jobs", "-j" }, { "--jobs=4", "-j" },
    { "--retry", "--retries" } } do
    t.match(check(2, case[1]), case[1], "nearest option is " .. case[2])
  end
  for _, argument in ipairs { "-x", "-vv", "-Wx", "---", "-" .. ("x"):rep(1000) } do
    t.match(check(2, argument), ("fzlua: unrecognized option '%s'"):format(argument))
  end
  for _, argument in ipairs { "--map", "--exclude=a", "-p" } do
    t.match(check(2, argument), "(fzlua -h lists the options)")
  end
end

tests["options that exclude each other"] = function()
  for _, words in ipairs { { "--each", "--fold", "1" }, { "--each", "--graph" },
    { "--fold", "--input", "a" }, { "-i", "--inputs" },
    { "-i", "--json" }, { "--graph", "--only", "A" } } do
    local first, second = words[1], words[2]
    if first == "--each" or first == "--fold" then table.insert(words, 2, "1") end
    t.match(check(2, table.unpack(words)), ("%s and %s cannot be used together"):format(first,
      second))
  end
end

tests["a wrong value names the possible ones"] = function()
  t.match(check(2, "--on-error", "contine"),
    "--on-error must be stop, now or continue, not contine", "nearest is continue")
  t.match(check(2, "--on-error="), "stop, now or continue")
  t.match(check(2, "--graph=mermade"), "nearest is mermaid")
  t.match(check(2, "--graph=png"), "not png\n")
  t.match(check(2, "--on-error", "ignore"), "not ignore\n")
  for _, option in ipairs(options.list) do
    if option.argument and not option.default then
      local flag = option.short or option.long
      t.match(check(2, flag), ("'%s' needs argument"):format(flag))
    end
  end
end

tests["modules that a script does not need are not loaded, but require finds them"] = function()
  local script = [[
    local needed, others = " cli command_line core error lua_options messages script ", {}
    for name in pairs(package.loaded) do
      name = name:match "^fzlua%.(.*)"
      if name and not needed:find(" " .. name .. " ", 1, true) then others[#others + 1] = name end
    end
    table.sort(others)
    print(table.concat(others, " "))
    print(type(require "fzlua.map".map), pcall(require, "fzlua.no_such_module"))
  ]]
  for _, given in ipairs { {}, { "-W" }, { "-E", "-l", "string" }, { "-lx=string" } } do
    table.move({ "-e", script }, 1, 2, #given + 1, given)
    local others, found = check(0, table.unpack(given)):match "^([^\n]*)\n(.*)"
    t.equal(others, "")
    t.match(found, "function\tfalse\tmodule 'fzlua.no_such_module' not found")
  end
  t.match(check(0, "-j2", "-e", script), "options")
end

-- Load the command with `modules` in place of modules of the same names, and run it with `host` and
-- the arguments. Returns the status, or the error.
local function run_with(modules, host, ...)
  local preload, loaded = {}, {}
  for name, module in pairs(modules) do
    preload[name] = package.preload[name] or false
    package.preload[name] = function() return module end
  end
  local function reload(name)
    loaded[name], package.loaded[name] = package.loaded[name] or false, nil
  end
  for _, noun in ipairs { "options", "command_line", "cli", "records", "repl" } do
    reload("fzlua." .. noun)
  end
  local kept, command = arg, package.loaded["fzlua.core"].command
  local step = require "fzlua.cli".main({ [0] = "fzlua", ... }, "", host)
  local function follow(what, ...)
    if math.type(what) == "integer" then return what end
    return follow(step(what(...)))
  end
  io.output(t.file "")
  local _, status = pcall(function() return follow(step()) end)
  io.output():close()
  io.output(io.stdout)
  _G.arg, package.loaded["fzlua.core"].command = kept, command
  for name, loader in pairs(preload) do package.preload[name] = loader or nil end
  for name, module in pairs(loaded) do package.loaded[name] = module or nil end
  return status
end

-- A module that notes its arguments.
local function module_of(calls)
  return { run = function(...)
    calls[#calls + 1] = table.pack(...)
    return 7
  end }
end

tests["--each calls the module of records with the files, in place of a script"] = function()
  local calls = {}
  local modules = { ["fzlua.records"] = module_of(calls) }
  t.equal(run_with(modules, {}, "--each", "line", "--null", "-j3", "--json", "a", "b"), 7)
  local given, files = table.unpack(calls[1])
  t.equal({ given.each, given.null, given.json, given.run, files },
    { "line", true, true, { jobs = 3 }, { "a", "b" } })
  t.equal(run_with(modules, {}, "--fold=acc.n = 1"), 7)
  t.equal({ calls[2][1].fold, calls[2][2] }, { "acc.n = 1", {} })
  t.match(run_with(modules, {}, "--null", "script").message, "--null needs --each or --fold")
  t.match(run_with(modules, {}, "--each", "n", "--fold", "1").message, "--each and --fold")
  t.equal(#calls, 2)
end

local NO_TERMINAL <const> = { input_is_terminal = function() return false end }

tests["-i calls the REPL after the script, with what it returned"] = function()
  local calls = {}
  local modules = { ["fzlua.repl"] = module_of(calls) }
  local script = t.file "return fz.chain{fz.stage 's'}, ..."
  t.equal(run_with(modules, NO_TERMINAL, "-i", script, "b"), 7)
  local _, arguments, _, chain, second = table.unpack(calls[1], 1, calls[1].n)
  t.equal({ arguments, tostring(chain), second }, { { "b" }, "StageChain(s(1))", "b" })
  t.equal(run_with(modules, { input_is_terminal = function() return true end }), 7)
  t.equal(calls[2].n, 3)
  t.match(run_with(modules, NO_TERMINAL, "-i", "-e", "error 'wrong'"), "wrong")
  t.equal(#calls, 2)
end

tests["an option of chains without a script is an error on a terminal, not the prompt"] = function()
  local calls = {}
  local modules = { ["fzlua.repl"] = module_of(calls) }
  local host = { input_is_terminal = function() return true end }
  for _, option in ipairs(options.list) do
    if option.group == "chain" then
      local value = option.argument and (option.default or "file") or nil
      local words = { option.default and option.long .. "=" .. value or option.long,
        not option.default and value or nil }
      local shown = option.long .. (value and not option.default and " " .. option.argument or "")
      t.match(run_with(modules, host, table.unpack(words)).message,
        ("%s needs a script: fzlua %s pipeline.lua"):format(option.long, shown))
    end
  end
  t.equal(#calls, 0)
end

-- Run a shell command in a terminal; returns all that it shows.
local function in_terminal(command)
  local out = t.shell(("TERM=xterm script -qec %q /dev/null </dev/null"):format(command))
  return (out:gsub("\r", ""))
end

tests["messages have colours on a terminal, unless NO_COLOR or TERM says no"] = function()
  local wrong = '"$FZLUA" -e "error \'wrong\'"'
  local plain = "fzlua: (command line):1: wrong\nstack traceback:"
  t.match(in_terminal(wrong), "fzlua: \27[31m(command line):1: wrong\27[0m\nstack traceback:")
  t.match(in_terminal('"$FZLUA" --jsn'), "\27[31munrecognized option", "\27[0m\n")
  local script = t.file "return fz.stage 's'"
  t.match(in_terminal(('"$FZLUA" %s A=1'):format(script)), "fzlua: \27[33mwarning: ", "A = 1\n")
  for _, set in ipairs { "NO_COLOR=1", "TERM=dumb", "TERM=" } do
    t.match(in_terminal(set .. " " .. wrong), plain)
  end
  t.match(select(2, t.shell(wrong)), plain)
end

tests["a script that begins with #! is run with the options of that line"] = function()
  local script = t.file [[
#!/usr/bin/env -S fzlua -j0 --json
local pid = fz.current_process().pid
local s = fz.stage "s"
function s.A(A) return {A, fz.current_process().pid == pid} end
return s
]]
  local command = [[PATH="$(dirname "$FZLUA"):$PATH"; chmod +x SCRIPT; SCRIPT A=1]]
  local out, err, status = t.shell((command:gsub("SCRIPT", script)))
  t.equal({ out, err, status }, { '{"A":[1,true]}\n', "", 0 })
end

return tests
