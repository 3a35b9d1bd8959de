local t = ...
local tests = {}

-- Check a script. The status and the findings, without the name of the file, must be these. The
-- further arguments are options, which begin with "-", and inputs. Returns standard error.
local function check(status, findings, code, ...)
  local script, words = t.file(code), {}
  for _, word in ipairs { ... } do
    if word:find "^%-" then words[#words + 1] = word end
  end
  words[#words + 1] = script
  for _, word in ipairs { ... } do
    if not word:find "^%-" then words[#words + 1] = word end
  end
  local out, err, got = t.command("--check", table.unpack(words))
  t.equal({ (out:gsub(script:gsub("%p", "%%%0") .. ":", "")), got }, { findings, status })
  return err
end

-- The warning for a global that is set.
local function is_set(name)
  return ("warning: global %s is set in a worker and lost with it: make it local, or set it at the "
    .. "top of the script, too\n"):format(name)
end

local CHAIN <const> = [[
local clean = fz.stage "clean"
function clean.A(A) return A + 1 end
local merge = fz.stage {name = "merge", pass_input = false}
function merge.C(A, B) return A + B end
return clean >> merge
]]

tests["a script without mistakes has no finding"] = function()
  t.equal(check(0, "", CHAIN, "A=1", "B=2"), "")
  check(0, "", "local x = 1 print(x) return x")
end

tests["inputs that are missing: notes, and errors if the command line has inputs"] = function()
  check(0, [[
2: note: missing input A (read for clean.A)
4: note: missing input B (read for merge.C)
]], CHAIN)
  check(1, "4: error: missing input B (read for merge.C)\n", CHAIN, "A=1")
  check(1, "2: error: missing input A (read for clean.A)\n", CHAIN,
    "--input=" .. t.file '{"B": 1}')
end

tests["inputs that are not read, and wrong names in --only"] = function()
  check(1, "1: error: no function reads input X, and it does not pass through\n", CHAIN,
    "A=1", "B=1", "X=1")
  check(1, "1: error: --only: the chain has no output CC (the nearest is C)\n", CHAIN,
    "--only=CC", "A=1", "B=1")
  check(0, "", CHAIN, "--only=C", "A=1", "B=1")
  t.match(check(2, "", CHAIN, "A"), "NAME=VALUE")
end

tests["values that cannot be sent, with their path"] = function()
  local function with(inputs)
    return "local f = io.tmpfile() " .. CHAIN:gsub("return clean >> merge",
      "local chain = clean >> merge\nchain.input = " .. inputs .. "\nreturn chain")
  end
  check(1, "4: error: input B: .rows[2].file: a FILE* cannot be sent\n",
    with "{A = 1, B = {rows = {1, {file = f}}}}")
  check(1, "2: error: input A: <upvalue f>: a FILE* cannot be sent\n",
    with "{A = function() return f end, B = 1}")
  check(0, "", with "{A = fz.queue(), B = fz.lock()}")
end

tests["a graph that cannot run"] = function()
  check(1, [[
4: error: stage second, output B: input A is missing: stage first neither makes it nor passes]]
    .. " inputs through\n", [[
local first, second = fz.stage {name = "first", pass_input = false}, fz.stage "second"
function first.X(X) return X end
-- the maker:
function second.B(A) return A end
return first >> second]])
  check(1, "3: error: a cycle: a -> b -> a\n", [[
local g = fz.dag()

g:add("a", "b", function(b) return b end) g:add("b", "a", function(a) return a end)
return g]])
  check(1, "1: error: the script makes a chain and neither invokes nor returns it: end it with "
    .. "'return chain'\n", (CHAIN:gsub("return", "local chain =")))
end

tests["globals that functions set in workers"] = function()
  check(1, "3: " .. is_set "total" .. "7: " .. is_set "cuont" .. "8: " .. is_set "inner", [[
local s = fz.stage {name = "s", init = function() connection = 1 end}
local function helper(a)
  total = (total or 0) + a
end
count = 0
function s.A(A)
  cuont = 1
  local function deep() inner = 2 end
  count = count + 1 + connection
  return helper(A), deep()
end
return s]], "A=1")
end

tests["globals that do not exist, with the nearest name"] = function()
  check(1, [[
3: warning: global tonubmer does not exist (the nearest name is tonumber)
4: warning: global frobnicate does not exist
4: warning: global helpr does not exist (the nearest name is helper)
]], [[
local s = fz.stage "s"
function s.A(A)
  if unpack or later then return tonubmer(A) end
  return frobnicate(helpr)
end
function helper() end
later = false
return s]], "A=1")
end

tests["a call that starts workers ends the check, also within pcall"] = function()
  local made = CHAIN:gsub("return", "local chain =")
  for _, call in ipairs { "chain{A = 1, B = {io.tmpfile()}}", "chain:stream{1}",
    "pcall(chain.invoke_async, chain, {A = 1, B = 1})" } do
    local findings = "6: note: the check ends here, because this call starts workers or programs\n"
    if call:find "tmpfile" then
      check(1, "4: error: input B: [1]: a FILE* cannot be sent\n" .. findings, made .. call)
    else
      check(0, findings, made .. call)
    end
  end
  local note = "1: note: the check ends here, because this call "
  for _, call in ipairs { "fz.map(print, {1})", "fz.pool(2):map(print, {1})",
    "fz.pool(2):apply_async(print)", "print(fz.pool(2).workers)", "fz.manager()",
    "for _ in fz.pool(1):imap(print, {1}) do end", "fz.fold(print, {1}, 0, print)",
    "fz.exec{'true'}", "fz.process(print):start()", "fz.run_scripts{'a.lua'}" } do
    check(0, note .. "starts workers or programs\n", call)
  end
  check(0, note .. "exits\n", "os.exit(3)")
  for _, call in ipairs { "os.execute 'false'", "io.popen 'false'" } do
    check(0, note .. "starts workers or programs\n", call)
  end
end

tests["a wait without a limit ends the check"] = function()
  local out, err, status = t.shell(([[
fifo=%s && rm $fifo && mkfifo $fifo && "$FZLUA" --check %s <>$fifo]]):format(t.file "",
    t.file "fz.wait_fd(0, 'r')"))
  t.match(out, ":1: note: the check ends here, because this call waits\n")
  t.equal({ err, status }, { "", 0 })
end

tests["a task without frames of the script starts a program where it was spawned"] = function()
  check(0, "2: note: the check ends here, because this call starts workers or programs\n", [[
local list = {}
list[1] = fz.spawn(fz.exec, {"true"})
for future in fz.as_completed(list) do future:await() end]])
end

tests["a script that does not end is an error where it runs"] = function()
  local text = "2: error: the top level of the script ran longer than its limit of 0.2 s\n"
  for _, loop in ipairs { "while true do end",
    "while true do pcall(function() while true do end end) end",
    "fz.sleep(1000)", "coroutine.wrap(function() while true do end end)()",
    "fz.spawn(function() while true do end end) fz.sleep(1000)" } do
    check(1, text, "\n" .. loop, "--timeout=0.2")
  end
end

tests["functions and arguments of a call that starts workers are checked"] = function()
  local note = "1: note: the check ends here, because this call starts workers or programs\n"
  check(1, note .. "1: " .. is_set "x", "fz.map(function(i) x = i end, {1, 2})")
  check(1, note .. "1: error: argument 2: .f: a FILE* cannot be sent\n",
    "fz.pool(1):apply(function() end, 1, {f = io.tmpfile()})")
end

tests["errors of the script are findings at their place"] = function()
  check(1, "2: error: unexpected symbol near '='\n", "\nx = = 1")
  check(1, "2: error: wrong\n", "\nlocal function f() error 'wrong' end f()")
  check(1, "1: error: stage s, output A: input A is missing\n", "fz.stage('s'):invoke('A')")
  check(1, "1: error: text\n", [[
error(setmetatable({}, {__tostring = function() return "text" end}))]])
  t.match(t.command("--check", t.file [[
error(setmetatable({}, {__tostring = function() error "raises" end}))]]), ":1: error: ")
  check(1, "2: error: this process does not hold the lock\n", "\nfz.lock():release()")
  local out, err, status = t.command("--check", "/nonexistent.lua")
  t.match(out, "/nonexistent.lua:1: error: cannot open")
  t.equal({ err, status }, { "", 1 })
end

tests["what the script prints goes to standard error"] = function()
  t.match(check(0, "", "print 'text' return 1"), "text\n")
  t.match(select(2, t.command("--check", "--each", "line")), "--each and --check")
  t.equal({ t.shell [[echo 'x = = 1' | "$FZLUA" --check -]] },
    { "stdin:1: error: unexpected symbol near '='\n", "", 1 })
end

tests["no process is started"] = function()
  if not os.execute "command -v strace >/dev/null" then return end
  for _, code in ipairs { CHAIN, "fz.map(print, {1})", "print(fz.pool(2).workers)" } do
    local trace = t.file ""
    t.shell(([[ASAN_OPTIONS=detect_leaks=0 \
      strace -f -qq -e trace=fork,vfork,clone,clone3 -o %s "$FZLUA" --check %s]]):format(trace,
      t.file(code)))
    t.equal(io.open(trace):read "a", "")
  end
end

tests["the examples have no finding"] = function()
  local find <close> = assert(io.popen "ls examples/*.lua")
  for path in find:lines() do
    local out, err, status = t.command("--check", path)
    if status ~= 0 or out:find ": warning:" then error(path .. "\n" .. out .. err) end
  end
end

return tests
