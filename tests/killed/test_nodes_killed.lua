-- test_nodes_killed.lua - one node is killed each second, while dags, streams and maps run on nodes
-- with three retries. The results are the same as in one process, each result is used once, and
-- nothing hangs.
--
-- The tests run a few dags, streams and maps. `make soak-nodes` runs 200 dags, 20 streams and 20
-- maps for each engine, and prints the time and how many calls were repeated. With FZLUA_PART=2/10
-- it runs the second of ten parts of them.
local t = ...
local tests = {}

local LONG <const> = os.getenv "FZLUA_LONG" ~= nil
local PART <const>, NPARTS <const> = (os.getenv "FZLUA_PART" or "1/1"):match "^(%d+)/(%d+)$"
local SUBMITTERS <const> = 4
local SECONDS <const> = LONG and 1500 or 200 -- a run that takes longer counts as hanging

-- Run the dags, streams and maps whose number is `first` modulo `step`, and print their results.
-- Write to the file `said` how many calls were repeated, and each call whose result was used twice
-- or never.
local WORK <const> = [[
local first, step, ndags, nothers, part = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3]),
  tonumber(arg[4]), tonumber(arg[5])
local said, remote = arg[6], arg[7] == "remote" -- not remote: make the expected results

local function nap(most)
  local seconds = math.random() * most
  if remote then os.execute("sleep " .. seconds) end
end

local function work(...)
  nap(0.15)
  local text = ("x"):rep(math.random(20000))
  return {math.random(1000), text, ...}
end

local repeated, wrong = 0, {}

-- Each call must have one event "done", and none of failure.
local function check_trace(what, trace, ncalls)
  local ends = 0
  local known = {}
  for _, e in ipairs(trace) do
    if e.event == "retry" then
      repeated = repeated + 1
    elseif e.event ~= "done" then
      wrong[#wrong + 1] = what .. ": " .. e.event
    else
      for i = 0, e.n - 1 do
        local key = ("%s %s %d"):format(e.name, e.item, (e.index or 0) + i)
        if known[key] then wrong[#wrong + 1] = what .. ": " .. key .. " twice" end
        known[key], ends = true, ends + 1
      end
    end
  end
  if ends ~= ncalls then wrong[#wrong + 1] = what .. ": " .. ends .. " ends of " .. ncalls end
end

-- Add a node whose inputs are some of the earlier nodes.
local function add_node(dag, i, names)
  local needs, seen = {}, {}
  for _ = 1, math.random(3) do
    local name = names[math.random(#names)]
    if not seen[name] then needs[#needs + 1], seen[name] = name, true end
  end
  dag:add("v" .. i, needs, work)
  names[#names + 1] = "v" .. i
end

local function run_dag(seed)
  math.randomseed(seed)
  local dag <close> = fz.dag{seed = seed}
  local names, ncalls = {"x"}, math.random(4, 12)
  for i = 1, ncalls do add_node(dag, i, names) end
  if seed % 3 == 0 then
    local n = math.random(4, 9)
    dag:add("list", names[#names], function(v)
      local list = {}
      for i = 1, n do list[i] = v[1] + i end
      return list
    end)
    dag:map("mapped", "list", function(x) nap(0.1) return x * math.random(9) end)
    ncalls = ncalls + 2 + n -- the list, the map as a whole, and each call of the map
  end
  local output = dag:invoke({x = seed}, {trace = remote}).output
  print("dag", seed, fz.digest(output))
  if remote then check_trace("dag " .. seed, dag.trace, ncalls) end
end

local function run_stream(seed)
  math.randomseed(seed)
  local one, two = fz.stage "one", fz.stage "two"
  one:register("B", "A", work)
  one:register("C", "A", function(a) nap(0.1) return a + math.random(100) end)
  two:register("D", {"B", "C"}, function(b, c) nap(0.05) return {b, c, math.random(100)} end)
  local chain <close> = one >> two
  local items = {}
  for i = 1, math.random(10, 30) do items[i] = {A = i} end
  for i, output in chain:stream(items, {seed = seed, trace = remote}) do
    print("stream", seed, i, fz.digest(output.D))
  end
  if remote then check_trace("stream " .. seed, chain.trace, 3 * #items) end
end

local function run_map(seed)
  math.randomseed(seed)
  local list = {}
  for i = 1, math.random(20, 60) do list[i] = i end
  local pool <close> = fz.pool{seed = seed}
  print("map", seed, fz.digest(pool:map(work, list)))
  local n = 0
  for i, x in pool:imap(function(x) nap(0.05) return x * math.random(1000) end, list) do
    n = n + 1
    assert(i == n)
    io.write(x, " ")
  end
  print("imap", seed, n)
end

for i = first, math.max(ndags, nothers), step do
  if i <= ndags then run_dag((part - 1) * ndags + i) end
  if i <= nothers then
    run_stream((part - 1) * nothers + i)
    run_map((part - 1) * nothers + i)
  end
end
local file <close> = assert(io.open(said, "a"))
file:write(repeated, " repeated\n", table.concat(wrong, "\n"))
]]

-- Shell functions: `submit` starts the submitters in the background, and `storm` kills nodes until
-- the submitters have ended. It calls `kill_node NAME`, which depends on the engine.
local STORM <const> = [[
script=%s; submitters=%d; ndags=%d; nothers=%d
submit() {
  for i in $(seq $submitters); do
    "$FZLUA" --retries 3 --engine $url $script $i $submitters $ndags $nothers %s $dir/said.$i \
        remote >$dir/out.$i 2>$dir/err.$i </dev/null &
    runs="$runs $!"
  done
}
running() { for pid in $runs; do kill -0 $pid 2>/dev/null && return; done; return 1; }
storm() {
  kills=0; began=$(date +%%s)
  while running; do
    sleep 1
    test $(($(date +%%s) - began)) -lt %d || { echo it hangs; kill -9 $runs; break; }
    kill_node $(printf 'one\ntwo\nthree\n' | shuf -n 1); kills=$((kills + 1))
  done
  for pid in $runs; do wait $pid || echo status $?; done
  echo $kills kills in $(($(date +%%s) - began)) s >$dir/figures
}
]]

local function storm(ndags, nothers)
  return STORM:format(t.file(WORK), SUBMITTERS, ndags, nothers, PART, SECONDS)
end

-- The expected output of all submitters, in their order.
local function expected(ndags, nothers)
  local script = t.file(WORK)
  local parts = {}
  for i = 1, SUBMITTERS do
    parts[i] = t.shell(('"$FZLUA" -j0 %s %d %d %d %d %s /dev/null'):format(
      script, i, SUBMITTERS, ndags, nothers, PART))
  end
  return table.concat(parts)
end

-- Shell commands after `storm`: collect the output of the submitters, and print the figures.
local RESULTS <const> = [[

cat $dir/out.* >&3; cat $dir/err.* >&2
awk '/repeated/ { n += $1; next } NF { print } END { print n + 0, "calls repeated" }' $dir/said.* \
    >>$dir/figures
cat $dir/figures
]]

local SSH <const> = [[
for word; do host=$command command=$word; done
NODE=$host; export NODE; exec setsid -w sh -c "$command"
]]

-- For ssh: kill all processes of this test (MARK) that run on the node (NODE).
local KILL_OF_SSH <const> = [[
kill_node() {
  victims=$(grep -lzx "NODE=$1" $(grep -lzx "MARK=$MARK" /proc/[0-9]*/environ 2>/dev/null) \
      2>/dev/null | cut -d/ -f3)
  test -z "$victims" || kill -9 $victims 2>/dev/null
}
]]

-- Unless the texts are the same, raise an error with the first line that differs and with `said`.
local function check_same(got, wanted, said)
  local theirs = got:gmatch "[^\n]*"
  for line in wanted:gmatch "[^\n]*" do
    local other = theirs()
    if line ~= other then
      other = other and other:sub(1, 200) or "nothing"
      error(("expected %s\n     got %s\n%s"):format(line:sub(1, 200), other, said), 0)
    end
  end
  t.equal(#got, #wanted)
end

-- Run a storm, and compare the output with that of one process. A short run has `ndags` dags; a
-- long one prints its figures.
local function check_storm(name, ndags, prepare)
  local nothers = LONG and 20 // NPARTS or ndags // 4
  ndags = LONG and 200 // NPARTS or ndags
  local results, mark = t.file "", t.mark()
  local commands = ("exec 3>%s; MARK=%s; export MARK\n"):format(results, mark) .. prepare
    .. storm(ndags, nothers) .. "submit; storm" .. RESULTS
  local out, err, status = t.shell(commands)
  local file <close> = assert(io.open(results))
  check_same(file:read "a", expected(ndags, nothers), out .. err)
  t.equal(status, 0)
  assert(out:find "^%d+ kills in %d+ s\n%d+ calls repeated\n$", out .. err)
  if LONG then print(("test_nodes_killed: %s: %s"):format(name, out:gsub("\n(.)", ", %1"))) end
  t.until_true(function() return t.left_of(mark) == "" end)
end

tests["dags, streams and maps give the same over ssh while nodes are killed"] = function()
  check_storm("ssh", t.rounds(8), ([[
dir=$(mktemp -d /tmp/fzlua-storm-XXXXXX); trap 'rm -r $dir' EXIT
FZLUA_SSH='sh %s' FZLUA_WORKER_COMMAND=$FZLUA; export FZLUA_SSH FZLUA_WORKER_COMMAND
url=ssh://one:2,two:2,three:2
]]):format(t.file(SSH)) .. KILL_OF_SSH)
end

local nats = dofile "tests/support/nats.lua"
local missing = nats.missing(t)
if missing then print("test_nodes_killed: NATS is skipped: " .. missing) end

-- A node that is killed is started again at once, as another node of that name.
local NATS <const> = [[
start_node() { node $1 2; eval "$1=$node"; }
kill_node() { eval "kill -9 \$$1; wait \$$1"; start_node $1; } 2>/dev/null
for name in one two three; do start_node $name; done
]]

tests["dags, streams and maps give the same over NATS while nodes are killed"] = not missing
  and function() check_storm("NATS", 4, nats.start() .. NATS) end or nil

return tests
