-- test_exec_streams.lua - input from iterators and files, output to functions and files, and check.

local t = ...
local fz = require "fzlua"

local tests = {}

local function sh(script, options)
  return fz.exec({ "sh", "-c", script }, options)
end

-- An iterator over the values of a list.
local function each(list)
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

-- A function that collects lines, and the list of them.
local function collector()
  local lines = {}
  return function(line) lines[#lines + 1] = line end, lines
end

tests["an iterator gives the input piece by piece"] = function()
  t.equal(fz.exec({ "cat" }, { stdin = each { "a\n", "", "b", "\n" } }).stdout, "a\nb\n")
  t.equal(fz.exec({ "cat" }, { stdin = each {} }).stdout, "")
  local big = ("x"):rep(1 << 20)
  t.equal(#fz.exec({ "cat" }, { stdin = each { big, big, big } }).stdout, 3 << 20)
end

tests["the next piece is asked for when the program has read the one before"] = function()
  local asked, got = 0, {}
  local function source()
    asked = asked + 1
    if asked <= 3 then return asked .. "\n" end
  end
  fz.exec({ "cat" }, {
    stdin = source,
    stdout = function(line) got[#got + 1] = line end,
  })
  t.equal(got, { "1", "2", "3" })
  t.equal(asked, 4)
end

tests["an endless iterator ends with the program"] = function()
  local asked = 0
  local ended = fz.exec({ "head", "-n", "2" }, {
    stdin = function()
      asked = asked + 1
      return ("line %d\n"):format(asked)
    end,
  })
  t.equal(ended.stdout, "line 1\nline 2\n")
  t.equal(ended.exitcode, 0)
end

tests["an iterator that waits for what the program wrote does not hang"] = function()
  local q = fz.queue()
  q:put "1"
  local got = {}
  fz.exec({ "cat" }, {
    stdin = function()
      local text = q:get(10)
      if text ~= "end" then return text .. "\n" end
    end,
    stdout = function(line)
      got[#got + 1] = line
      q:put(#got < 5 and tostring(#got + 1) or "end")
    end,
  })
  t.equal(got, { "1", "2", "3", "4", "5" })
end

tests["functions get lines of both streams while the program runs"] = function()
  local out, outs = collector()
  local err, errs = collector()
  local script = "echo a; echo b >&2; echo; printf c; printf d >&2"
  local ended = sh(script, { stdout = out, stderr = err })
  t.equal(outs, { "a", "", "c" })
  t.equal(errs, { "b", "d" })
  t.equal(ended, { exitcode = 0 })
end

tests["a stream without a function is returned as a whole"] = function()
  local out, outs = collector()
  local ended = sh("echo a; echo b >&2", { stdout = out })
  t.equal(outs, { "a" })
  t.equal(ended, { exitcode = 0, stderr = "b\n" })
end

tests["an error of a function ends an iterator that waits"] = function()
  local q, reason, asked = fz.queue(), {}, 0
  local ok, e = pcall(fz.exec, { "cat" }, {
    stdin = function()
      asked = asked + 1
      if asked == 1 then return "a\n" end
      q:get(10)
    end,
    stdout = function() error(reason) end,
  })
  t.equal({ ok, e == reason }, { false, true })
end

tests["lines arrive before the program ends"] = function()
  local q = fz.queue()
  local lines = {}
  fz.exec({ "sh", "-c", "echo ready; read answer; echo $answer" }, {
    stdin = function() return q:get(10) end,
    stdout = function(line)
      lines[#lines + 1] = line
      if line == "ready" then q:put "go\n" else q:put(nil) end
    end,
  })
  t.equal(lines, { "ready", "go" })
end

tests["long lines and many lines are whole"] = function()
  local n, sum, longest = 0, 0, 0
  sh("head -c 3000000 /dev/zero | tr '\\0' x; echo; seq 200000", {
    stdout = function(line)
      n = n + 1
      longest = math.max(longest, #line)
      sum = sum + (tonumber(line) or 0)
    end,
  })
  t.equal(n, 200001)
  t.equal(longest, 3000000)
  t.equal(sum, 200000 * 200001 // 2)
end

tests["files are input and output"] = function()
  local input, output = t.file "b\na\n", t.file "longer than what comes"
  local ended = fz.exec({ "sort" }, { stdin = { file = input }, stdout = { file = output } })
  t.equal(ended, { exitcode = 0, stderr = "" })
  t.equal(t.read(output), "a\nb\n")
  sh("echo out; echo err >&2; echo out", { stdout = { file = output }, stderr = { file = output } })
  t.equal(t.read(output), "out\nerr\nout\n")
  sh("echo only >&2", { stderr = { file = output }, cwd = "/" })
  t.equal(t.read(output), "only\n")
end

tests["a file that cannot be opened is named"] = function()
  for _, name in ipairs { "stdin", "stdout", "stderr" } do
    local e = t.fails("error", sh, "true", { [name] = { file = "/nowhere/x" } })
    t.match(tostring(e), "cannot open '/nowhere/x'")
  end
end

tests["check raises unless the program exits with 0"] = function()
  t.equal(sh("exit 0", { check = true }).exitcode, 0)
  local e = t.fails("error", sh, "echo first >&2; echo why >&2; exit 3", { check = true })
  t.equal({ e.exitcode, e.cause.stderr }, { 3, "first\nwhy\n" })
  t.match(tostring(e), "'sh' exited with code 3: why")
  e = t.fails("crash", sh, "kill -TERM $$", { check = true })
  t.equal(e.signal, 15)
  t.match(tostring(e), "killed by signal 15 (SIGTERM)")
  e = t.fails("timeout", sh, "echo x; sleep 100", { check = true, timeout = 2 })
  t.equal(e.cause.stdout, "x\n")
end

tests["a function that raises ends the program, and its error is raised"] = function()
  local reason = {}
  local function fail() error(reason) end
  t.equal({ pcall(sh, "echo a; sleep 100", { stdout = fail }) }, { false, reason })
  t.equal({ pcall(fz.exec, { "sleep", "100" }, { stdin = fail }) }, { false, reason })
end

tests["a timeout holds while functions handle the streams"] = function()
  local out, outs = collector()
  local result, why, ended = sh("echo a; sleep 100", { stdout = out, timeout = 2 })
  t.equal({ result, why, ended.timed_out }, { nil, "timeout", true })
  t.equal(outs, { "a" })
end

tests["wrong streams are errors at the caller's line"] = function()
  for _, case in ipairs {
    { { stdin = 1 }, "a string, an iterator of strings or {file = NAME} expected, got 1" },
    { { stdout = "x" }, "a function or {file = NAME} expected" },
    { { stderr = { file = 1 } }, "a function or {file = NAME} expected" },
    { { stdout = { file = "x", mode = "a" } }, "a function or {file = NAME} expected" },
    { { stdin = { file = "a\0b" } }, "'stdin.file'" },
    { { check = 1 }, "a boolean expected" },
    { { stdin = function() return {} end }, "must return strings, not a table" },
  } do
    local function call() fz.exec({ "cat" }, case[1]) end
    t.match(t.wrong(call), "test_exec_streams.lua:", case[2])
  end
end

return tests
