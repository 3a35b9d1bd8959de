-- --engine: one call to the system, for memory, or to libnats fails in one process of an engine,
-- each time another call: see tests/support/faulty.c. The script prints its result, or ends with
-- one line that says why; nothing hangs or is left.
--
-- Here some calls fail, with FZLUA_LONG all. FZLUA_FAULTS="ROLE FIRST LAST STEP" lets these calls
-- of a role fail, and prints what each one did.
local t = ...
local nats = dofile "tests/support/nats.lua"
local tests = {}

local missing = nats.missing(t)
local faulty = t.fzlua:match "^.*/" .. "tests/faulty/fzlua"

-- Maps, a chain of two stages, a stream; values of one packet and of several.
local SCRIPT <const> = [[
local s, last = fz.stage "S", fz.stage "T"
s:register("B", "A", function(a) return a + 1 end)
s:register("C", "A", function(a) return ("x"):rep(a * 1000) end)
last:register("D", {"B", "C"}, function(b, c) return b + #c end)
local chain <close> = s >> last
local list = fz.map(function(x) print(x) return 2 * x end, {1, 2, 3, 4, 5})
list[6] = #fz.map(function(s) return s .. s end, {("y"):rep(300000)})[1]
list[7] = chain:invoke({A = 3}).output.D
for i, output in chain:stream({{A = 1}, {A = 2}, {A = 3}}) do list[7 + i] = output.D end
print(table.concat(list, " "))
]]
local RESULT <const> = "2 4 6 8 10 600000 3004 1002 2003 3004"

-- try ROLE N: run the script while the N-th call of ROLE fails, and print a line for what is wrong.
-- In $dir, the script writes out and err, the node writes log, and fault names the call.
local TRY <const> = [[
export FZLUA_WORKER_COMMAND=$FZLUA ASAN_OPTIONS="$ASAN_OPTIONS:log_path=$dir/asan"
left() { grep -lz "^MARK=$MARK\$" /proc/[0-9]*/environ; }
none_left() { ! left; }
wrong() { echo "$1: $(cat $dir/fault)"; sed 's/^/  /' $dir/out $dir/err $dir/log; }
try() {
  rm -f $dir/fault; : >$dir/log
  export FZLUA_FAULT="$1 $2 $dir/fault" MARK=%s-$2
  start_node
  timeout 60 "$FZLUA" --engine $engine %s submitter >$dir/out 2>$dir/err </dev/null; status=$?
  end_node
  until_true none_left || wrong "$1 $2: processes are left"
  result=$(grep -c '^%s$' $dir/out) errors=$(grep -c '^fzlua: ' $dir/err)
  case $status,$result,$errors in
  0,1,[01] | [12],0,1) ;;
  *) wrong "$1 $2: status $status" ;;
  esac
  cat $dir/asan.* && wrong "$1 $2: memory" && rm -f $dir/asan.*
  test "$SHOW" && echo "$1 $2 $result: $(cat $dir/fault)" && cat $dir/err $dir/log
  unset FZLUA_FAULT MARK
  test -e $dir/fault
} 2>/dev/null
# try_all ROLE FIRST LAST STEP: as far as the role has calls
try_all() {
  n=$2 without=0 faults=0
  while test $n -le $3 -a $without -lt 3; do
    if try $1 $n; then faults=$((faults + 1)); else without=$((without + 1)); fi
    n=$((n + $4))
  done
  test $faults != 0 || echo "no call of $1 has failed"
}
]]

local NATS <const> = not missing and nats.start() .. [[
engine=$url
start_node() { "$FZLUA" --worker --engine $url -j2 --name one >$dir/log 2>&1 & node=$!
  until_true eval 'grep -q joined $dir/log || is_gone $node'; }
end_node() { kill $node; wait $node; }
]]
local SSH <const> = [[
engine=ssh://one:2 dir=$(mktemp -d /tmp/fzlua-ssh-XXXXXX)
trap 'rm -r $dir' EXIT
echo 'for word; do command=$word; done; exec setsid -w sh -c "$command"' >$dir/ssh
export FZLUA_SSH="sh $dir/ssh"
start_node() { :; }
end_node() { :; }
]]

-- Add a test that runs the script again and again, each time with another call that fails: every
-- `step`-th call of the processes that have the word `role` in their command line. If `role` ends
-- in a +, these are the calls of their forks.
local function add(name, engine, role, step)
  tests[name] = function()
    local wanted, first, last, each =
      (os.getenv "FZLUA_FAULTS" or ""):match "(%S+) (%d+) (%d+) (%d+)"
    if wanted and wanted ~= role then return end
    if os.getenv "FZLUA_LONG" then step = 1 end
    local out = t.shell(table.concat {
      "exec 2>&1\n", engine, ("FZLUA=%s SHOW=%s\n"):format(faulty, wanted and 1 or ""),
      TRY:format(t.mark(), t.file(SCRIPT), RESULT),
      ("try_all %s %d %d %d\n"):format(role, first or 1, last or 400, each or step),
    })
    if wanted then print(out) else t.equal(out, "") end
  end
end

add("ssh: the script", SSH, "submitter", 41)
add("ssh: the process on the node", SSH, "--worker", 17)
add("ssh: the worker on the node", SSH, "--worker+", 29)
if missing then
  print("test_node_faults: without NATS: " .. missing)
  return tests
end
add("nats: the script", NATS, "submitter", 59)
add("nats: the gateway of the script", NATS, "--submit", 47)
add("nats: the relay", NATS, "--relay", 2)
add("nats: the command that joins", NATS, "--name", 5)
add("nats: the gateway of the node", NATS, "--serve", 47)
add("nats: the process on the node", NATS, "--slot-line", 23)
add("nats: the worker on the node", NATS, "--slot-line+", 37)

return tests
