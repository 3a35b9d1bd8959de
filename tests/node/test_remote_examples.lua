-- test_remote_examples.lua - each example prints its expected output also on nodes: over a program
-- that replaces ssh, and over NATS. The table below says why some examples need a single machine.
local t = ...
local tests = {}

local ONE_MACHINE <const> = {
  frames = "an event tells its worker to stop",
  httpd = "it serves a port of this machine",
  sqlite = "its workers get an object of the driver by the fork",
  tail = "it follows a file until Ctrl-C",
}
local ARGUMENTS <const> = { packages = "file=examples/data/packages.txt" }

-- Shell function: `try EXAMPLE ARGUMENT` prints whether the output of an example is the same.
local TRY <const> = [[
try() {
  timeout 240 "$FZLUA" --engine $url examples/$1.lua $2 >$dir/out 2>$dir/err </dev/null
  status=$?
  if test $status = 0 && cmp -s $dir/out examples/$1.expected; then echo $1 same
  else echo $1 differs: $status; diff $dir/out examples/$1.expected | head -5; cat $dir/err; fi
}
]]

-- The names of the examples that can run on nodes, in order.
local function names()
  local list, seen = {}, {}
  for name in t.shell("ls examples/*.lua"):gmatch "([%w_]+)%.lua" do
    seen[name] = true
    if not ONE_MACHINE[name] then list[#list + 1] = name end
  end
  for name in pairs(ONE_MACHINE) do assert(seen[name], "no such example: " .. name) end
  return list
end

-- Run all examples after the shell commands `start`, which set `dir` and `url`.
local function check_all(start)
  local commands, expected = { "exec 2>&1\n", start, TRY }, {}
  for i, name in ipairs(names()) do
    commands[#commands + 1] = ("try %s %s\n"):format(name, ARGUMENTS[name] or "")
    expected[i] = name .. " same\n"
  end
  assert(#expected > 20)
  t.equal(t.shell(table.concat(commands)), table.concat(expected))
end

local SSH <const> = [[
for word; do host=$command command=$word; done
exec setsid -w sh -c "$command"
]]

tests["examples print the same over ssh"] = function()
  check_all(([[
dir=$(mktemp -d /tmp/fzlua-examples-XXXXXX); trap 'rm -r $dir' EXIT
FZLUA_SSH='sh %s' FZLUA_WORKER_COMMAND=$FZLUA; export FZLUA_SSH FZLUA_WORKER_COMMAND
url=ssh://one:2,two:1
]]):format(t.file(SSH)))
end

local nats = dofile "tests/support/nats.lua"
local missing = nats.missing(t)
if missing then print("test_remote_examples: NATS is skipped: " .. missing) end

tests["examples print the same over NATS"] = not missing and function()
  check_all(nats.start() .. "node one 2; node two 1\n")
end or nil

return tests
