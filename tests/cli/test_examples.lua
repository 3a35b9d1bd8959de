-- Each example prints the bytes in examples/<name>.expected for each value of the option -j. The
-- second argument of this file is the list of these values.

local t, JOBS = ...

JOBS = JOBS or {0, 1, 2, 8}

local EXAMPLES = { -- name, arguments
  {"stages", ""},
  {"primes", ""},
  {"model", ""},
  {"diamond", ""},
  {"frames", ""},
  {"processes", ""},
  {"scripts", ""},
  {"packages", "file=examples/data/packages.txt"},
  {"pool", ""},
  {"primes_map", ""},
  {"sizes", ""},
  {"wordcount", ""},
  {"bank", ""},
  {"ratelimit", ""},
  {"startgun", ""},
  {"producer_consumer", ""},
  {"phases", ""},
  {"histogram", ""},
  {"worklist", ""},
  {"pingpong", ""},
  {"logmerge", ""},
  {"async", ""},
  {"race", ""},
  {"progress", ""},
  {"accesslog", ""},
  {"release", ""},
  {"batch", ""},
}
if pcall(require, "luasql.sqlite3") then EXAMPLES[#EXAMPLES + 1] = {"sqlite", ""} end

-- Standard output of a shell command; raises with its standard error unless it exits with 0.
local function run(command)
  local errors = os.tmpname()
  local pipe = assert(io.popen(("timeout 240 %s 2>%s </dev/null"):format(command, errors)))
  local output = pipe:read("a")
  local ok, how, code = pipe:close()
  local said = t.read(errors)
  os.remove(errors)
  assert(ok, ("%s: %s %s\n%s"):format(command, how, code, said))
  return output
end

-- The first line that differs, which helps more than the whole texts.
local function difference(expected, got)
  local line, theirs = 1, got:gmatch("[^\n]*\n?")
  for ours in expected:gmatch("[^\n]*\n?") do
    local other = theirs()
    if ours ~= other then
      return ("line %d: expected %q, got %q"):format(line, ours, other or "nothing")
    end
    line = line + 1
  end
  return "no difference"
end

local tests = {}

for _, example in ipairs(EXAMPLES) do
  local name, arguments = example[1], example[2]
  for _, jobs in ipairs(JOBS) do
    tests[("%s_prints_what_is_expected_at_j%d"):format(name, jobs)] = function()
      local got = run(("%s -j%d examples/%s.lua %s"):format(t.fzlua, jobs, name, arguments))
      local expected = t.read(("examples/%s.expected"):format(name))
      assert(got == expected, difference(expected, got))
    end
  end
end

-- Helpers for shell scripts that run an example until SIGINT ends it.
local UNTIL_SIGINT <const> = [[
out=%s
run() { MARK=%s env --default-signal=INT "$FZLUA" "$@" >$out </dev/null & pid=$!; }
until_printed() { until_true grep -q "$1" $out; }
end() { kill -INT $pid; wait $pid; echo "exit status $?"; }
]]

-- Run the script. The output of the example and that of the script must be the expected one.
local function check_until_sigint(name, script)
  local mark, output = t.mark(), t.file ""
  local out, err, status = t.shell(UNTIL_SIGINT:format(output, mark) .. script)
  local got, expected = t.read(output) .. out, t.read(("examples/%s.expected"):format(name))
  got = got:gsub("127%.0%.0%.1:%d+", "127.0.0.1:PORT")
  assert(got == expected, difference(expected, got))
  t.equal({ err, status }, { "", 0 })
  t.equal(t.left_of(mark), "")
end

-- The log grows, and one of its lines is written in two parts. The log is renamed, and gets one
-- more line before the next log exists. The next log is cut short.
local GROWING_LOG <const> = [[
line() { # number status bytes
  printf '10.0.0.%%d - - [28/Nov/2026:17:%%02d:00] "GET /page/%%d HTTP/1.1" %%s %%d\n' \
      $1 $1 $1 $2 $3
}
log=%s
line 1 200 10 >$log
run -j%d examples/tail.lua $log
line 2 200 10 >>$log
line 3 500 10 >>$log; until_printed /page/3
printf '%%s' "$(line 4 404 10)" >>$log; sleep 0.2; printf '00\n' >>$log
mv $log $log.1; line 5 200 10 >>$log.1
line 6 200 10 >$log; echo odd >>$log; line 7 503 10 >>$log; until_printed /page/7
: >$log; line 8 500 10 >>$log; until_printed /page/8
end; rm $log.1
]]

for _, jobs in ipairs(JOBS) do
  tests[("tail_follows_a_log_until_sigint_at_j%d"):format(jobs)] = function()
    check_until_sigint("tail", GROWING_LOG:format(t.file "", jobs))
  end
end

-- More connections than the server has descriptors: it waits without processor time until some are
-- closed.
local CONNECTIONS <const> = [[
local socket = require "socket"
local function ticks()
  local stat <close> = io.open(("/proc/%s/stat"):format(arg[2]))
  local user, system = stat:read "a":match("%) %a" .. (" %-?%d+"):rep(10) .. " (%d+) (%d+)")
  return user + system
end
local clients = {}
for i = 1, 60 do clients[i] = assert(socket.connect("127.0.0.1", tonumber(arg[1]))) end
socket.sleep(0.5)
local before = ticks()
socket.sleep(1)
if ticks() - before > 40 then print "it spins" end
for i = 1, 59 do clients[i]:close() end
clients[60]:send "GET /primes/10 HTTP/1.1\r\n\r\n"
print((clients[60]:receive "*a":gsub("\r\n.*\r\n\r\n", ": ")))
]]

if pcall(require, "socket") then
  tests.httpd_waits_for_descriptors = function()
    local out = t.shell(([[
out=$(mktemp)
(ulimit -n 40; exec env --default-signal=INT "$FZLUA" -j0 examples/httpd.lua) >$out & server=$!
until_true grep -q http $out; "$FZLUA" %s $(sed 's/.*://' $out) $server
kill -INT $server; wait $server; rm $out
]]):format(t.file(CONNECTIONS)))
    t.match(out, "200 OK: 4\n")
    assert(not out:find "spins", out)
  end
end

-- Other requests are answered although one request takes long, one is sent only in part, and one is
-- garbage.
local REQUESTS <const> = [[
local socket = require "socket"
local function send(text)
  local client = assert(socket.connect("127.0.0.1", tonumber(arg[1])))
  client:send(text)
  return client
end
local function print_answer(client)
  io.write((client:receive "*a":gsub("\r\n.*\r\n\r\n", ": ")))
  client:close()
end
local half, long = send "GET /primes/30 HTT", send "GET /primes/2000000 HTTP/1.0\r\n\r\n"
local idle, garbage = send "", send "\0\255 garbage\r\n\r\n"
local clients = {}
for i = 1, 10 do clients[i] = send(("GET /primes/%d HTTP/1.1\r\n\r\n"):format(10 ^ (i % 5))) end
for _, client in ipairs(clients) do print_answer(client) end
print_answer(garbage)
half:send "P/1.1\r\n\r\n"
print_answer(half)
print_answer(long)
print_answer(send "GET /nowhere HTTP/1.1\r\n\r\n")
idle:close()
]]

if pcall(require, "socket") then
  for _, jobs in ipairs(JOBS) do
    tests[("httpd_answers_all_clients_until_sigint_at_j%d"):format(jobs)] = function()
      check_until_sigint("httpd", ([[
run -j%d examples/httpd.lua; until_printed http
port=$(sed 's/.*://' $out); "$FZLUA" %s $port
end
]]):format(jobs, t.file(REQUESTS)))
    end
  end
end

for _, jobs in ipairs(JOBS) do
  tests[("cluster_prints_what_is_expected_at_j%d"):format(jobs)] = function()
    local got = run(("%s -j%d examples/cluster/mandelbrot.lua"):format(t.fzlua, jobs))
    local expected = t.read "examples/cluster/mandelbrot.expected"
    assert(got == expected, difference(expected, got))
  end
end

local has_server = t.shell "PATH=$PATH:/usr/sbin command -v nats-server" ~= ""
local gateway = os.getenv "FZLUA_NATS" or t.fzlua .. "-nats"
local has_gateway = t.shell("test -x " .. gateway .. " && echo yes") ~= ""
local has_engines = not t.fzlua:find "plain.lua" -- plain.lua has no option --engine
local has_nodes = has_server and has_gateway and has_engines
if not has_nodes then
  local missing = has_server and "fzlua-nats" or "nats-server"
  print("test_examples: the cluster is skipped: no " .. missing)
end

-- Run shell commands, which may leave no process. Returns their output.
local function check_cluster(commands, ...)
  local mark = t.mark()
  local out, err, status = t.shell(("MARK=%s; export MARK FZLUA; unset FZLUA_ENGINE\n"):format(mark)
    .. commands)
  assert(status == 0, out .. err)
  t.match(out, ...)
  t.equal(t.left_of(mark), "")
  return out
end

tests.cluster_runs_a_command_on_three_nodes = has_nodes and function()
  local out = check_cluster([[
    examples/cluster/start.sh "$FZLUA" examples/cluster/mandelbrot.lua |
        cmp - examples/cluster/mandelbrot.expected && echo same
    examples/cluster/start.sh "$FZLUA" --nodes
    examples/cluster/start.sh sh -c 'exit 7' || echo status $?
  ]], "same\n", "status 7\n")
  for _, name in ipairs {"one", "two", "three"} do
    assert(out:find("\n" .. name .. " +2 [^\n]* ready\n"), out)
  end
end or nil

tests.cluster_ends_at_sigint_with_its_server_and_nodes = has_nodes and function()
  check_cluster(([[
    out=%s
    env --default-signal=INT examples/cluster/start.sh >$out 2>&1 </dev/null & script=$!
    until_true grep -q Ctrl-C $out
    FZLUA_ENGINE=$(cat $(sed -n 's/.*cat \(.*\)).*/\1/p' $out)) "$FZLUA" \
        examples/cluster/mandelbrot.lua | cmp - examples/cluster/mandelbrot.expected && echo same
    kill -INT $script; wait $script; echo status $?
  ]]):format(t.file ""), "same\n", "status 130\n")
end or nil

-- A program in place of srun. It runs the command three times on this machine.
local SRUN <const> = [[
while test "${1#--}" != "$1"; do shift; done; pids=
for i in 1 2 3; do "$@" & pids="$pids $!"; done
trap 'kill $pids' TERM; wait; wait
]]

tests.cluster_is_a_job_of_slurm = has_nodes and function()
  check_cluster(([[
    dir=$(mktemp -d /tmp/fzlua-slurm-XXXXXX)
    ln -s "$FZLUA" $dir/fzlua; ln -s %s $dir/fzlua-nats
    printf '#!/bin/sh\nexec sh %s "$@"\n' >$dir/srun; echo 'echo localhost' >$dir/hostname
    chmod +x $dir/srun $dir/hostname
    PATH=$dir:$PATH sh examples/cluster/slurm.sh >$dir/out; status=$?
    cmp $dir/out examples/cluster/mandelbrot.expected && echo same; rm -r $dir; exit $status
  ]]):format(gateway, t.file(SRUN)), "same\n")
end or nil

-- The script of the page, with a program in place of srun that runs the command after the options.
-- The real srun keeps bytes without a newline unless it has --unbuffered.
tests.cluster_uses_srun_in_place_of_ssh = has_engines and function()
  local page = t.read "examples/cluster/README.md"
  local script = page:match "%$ cat srun%-as%-ssh\n(.-)%s+%$ FZLUA_SSH"
  check_cluster(([[
    dir=$(mktemp -d /tmp/fzlua-slurm-XXXXXX)
    printf '#!/bin/sh\ntest "$1" = --unbuffered || exit 1
      while test "${1#--}" != "$1"; do shift; done\nexec setsid -w "$@"\n' >$dir/srun
    chmod +x $dir/srun; PATH=$dir:$PATH
    FZLUA_WORKER_COMMAND=$FZLUA FZLUA_SSH="sh %s" "$FZLUA" --engine ssh://node17:2,node18:1 \
        examples/cluster/mandelbrot.lua | cmp - examples/cluster/mandelbrot.expected && echo same
    rm -r $dir
  ]]):format(t.file(script)), "same\n")
end or nil

-- Whether a block is the text of an output, where a line "..." stands for any lines.
local function is_shown_by(text, block)
  local pattern = block:gsub("%p", "%%%0"):gsub("%%%.%%%.%%%.\n", ".*")
  return text:find("^\n?" .. pattern .. "$") ~= nil
end

-- The output of each example that examples/README.md shows, by the example's name.
local function shown_outputs()
  local shown = {}
  local readme = t.read "examples/README.md"
  for name, block in readme:gmatch "%*%*%[([%w_]+)%.lua%][^\n]*\n\n```\n(.-)```\n" do
    shown[name] = block
  end
  return shown
end

tests.readme_of_examples_shows_the_output_of_each_example = function()
  local shown = shown_outputs()
  for path in t.shell "ls examples/*.lua":gmatch "%S+" do
    local name = path:match "([%w_]+)%.lua"
    local expected = t.read(("examples/%s.expected"):format(name))
    assert(shown[name], "examples/README.md lacks " .. path)
    assert(is_shown_by(expected, shown[name]), "examples/README.md: other output of " .. path)
    shown[name] = nil
  end
  assert(not next(shown), "examples/README.md names a file that does not exist")
end

tests.graph_of_packages_is_the_same_twice = function()
  local command = t.fzlua .. " --graph=mermaid examples/packages.lua"
  local picture = run(command)
  assert(picture:find("longest_chain", 1, true), "the picture lacks a function")
  assert(picture == run(command), "two pictures of one graph differ")
end

tests.packages_says_which_file_it_cannot_read = function()
  local ok, message = pcall(run, t.fzlua .. " examples/packages.lua file=/nowhere/Packages")
  assert(not ok and message:find("/nowhere/Packages: No such file", 1, true), message)
  assert(message:find("load", 1, true) and message:find("text", 1, true), message)
end

tests.packages_refuses_a_file_without_packages = function()
  local ok, message = pcall(run, t.fzlua .. " examples/packages.lua file=LICENSE")
  assert(not ok and message:find("LICENSE holds no packages", 1, true), message)
end

return tests
