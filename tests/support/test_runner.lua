-- test_runner.lua - tests/support/runner.c starts, watches and counts test programs.
local t = ...
local tests = {}

local dir = os.tmpname()
os.remove(dir)

---Run these commands, two at a time; a test may take `limit` seconds.
---@return string output, integer status
local function run_within(limit, ...)
  local words = { ("%stests/runner 2 %g %s"):format(t.fzlua:match "^.*/", limit, dir) }
  for _, command in ipairs { ... } do words[#words + 1] = "'" .. command .. "'" end
  local out, err, status = t.shell(("mkdir %s; %s; status=$?; rm -r %s; exit $status"):format(
    dir, table.concat(words, " "), dir))
  t.equal(err, "")
  return out, status
end

local function run(...)
  return run_within(30, ...)
end

tests["counts of tests are added"] = function()
  local out, status = run("echo 3 passed, 0 failed", 'echo "[  PASSED  ] 4 test(s)."')
  t.match(out, "\n7 passed, 0 failed\n")
  t.equal(status, 0)
end

tests["failed tests are counted, and their programs are named"] = function()
  local out, status = run(
    'echo "2 passed, 1 failed"; exit 1 # /a',
    'echo "[  FAILED  ] 2 test(s), listed below:"; exit 2 # /b',
    'echo "5 passed, 0 failed" # /c',
    "false # /d",
    "kill -9 $$ # /e")
  for name in ("abde"):gmatch "." do t.match(out:match "\nfailed:[^\n]*", " " .. name) end
  assert(not out:match("\nfailed:[^\n]*"):find " c")
  t.match(out, "\n7 passed, 5 failed\n", "  e: Killed\n")
  t.equal(status, 1)
end

tests["files of one name in two folders have two names and two logs"] = function()
  local out, err, status = t.shell(([[
mkdir -p DIR/log DIR/a DIR/b
echo 'echo "in a"; echo "1 passed, 0 failed"' >DIR/a/same
echo 'echo "in b"; exit 1' >DIR/b/same
RUNNER 2 30 DIR/log "sh DIR/a/same" "sh DIR/b/same"
cd DIR/log && grep -h '^in' a-same.log b-same.log; rm -r DIR]])
    :gsub("DIR", dir):gsub("RUNNER", t.fzlua:match "^.*/" .. "tests/runner"))
  t.match(out, "a/same\n", "\nfailed: b/same\n", "\nin a\nin b\n")
  t.equal({ err, status }, { "", 0 })
end

tests["the output of a program that fails is shown in one piece, no other"] = function()
  local out = run("for i in 1 2 3; do echo a; sleep 0.05; done; false",
    "for i in 1 2 3; do echo b; sleep 0.05; done; false", "echo quiet")
  t.match(out, "a\na\na\n", "b\nb\nb\n")
  assert(not ("\n" .. out):find "\nquiet")
end

tests["a program that hangs is killed with all below it, and described"] = function()
  local pids = t.file ""
  local out, status = run_within(0.2,
    ([[echo "this test"; sleep 77 & echo $! >%s; wait # /hangs]]):format(pids), "true # /other")
  t.match(out, "this test\n", "watchdog: hangs", "sleep 77", "hangs: Killed\n",
    "\nfailed: hangs\n", "\n0 passed, 1 failed\n")
  t.equal(status, 1)
  t.until_true(function() return not t.is_running(io.open(pids):read "n") end)
end

tests["what a program leaves running is named, killed and a failure"] = function()
  local pid = t.file ""
  local out, status = run_within(3,
    ("setsid sleep 77 & echo $! >%s; echo 1 passed, 0 failed # /leaves"):format(pid),
    "(sleep 0.3 &); echo 1 passed, 0 failed # /ends")
  t.match(out, "left running by leaves:\nwatchdog: ", "sleep 77", "\n2 passed, 1 failed\n")
  t.equal(status, 1)
  t.until_true(function() return not t.is_running(io.open(pid):read "n") end)
end

tests["a program that begins new tests does not hang"] = function()
  local out, status = run_within(2,
    "for i in 1 2 3 4 5 6; do echo test $i; sleep 0.5; done; echo 6 passed, 0 failed")
  t.match(out, "\n6 passed, 0 failed\n")
  t.equal(status, 0)
end

tests["an endless loop ends after a while"] = function()
  local out, status = run_within(0.2, "echo this test; while :; do :; done")
  t.match(out, "watchdog: hangs", "\n0 passed, 1 failed\n")
  t.equal(status, 1)
end

return tests
