-- The tests of Lua files: fzlua tests/run.lua tests/pool/test_map.lua ...
--
-- A test file gets the table `t` below and returns a table name -> function. After
-- each test no descriptor and no child process may be left over. A wait in a test ends
-- after PATIENCE seconds at the latest, which is long because the machine may be busy.
-- FZLUA_TEST is a part of the names of the tests to run; each one's time is printed.
-- `make test` runs one process for each file, which support/runner.c ends if it hangs.

local PATIENCE <const> = 30

local t = {}

---Whether a and b are equal; tables are compared by their contents.
local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b and math.type(a) == math.type(b)
  end
  for k, v in next, a do
    if not same(v, rawget(b, k)) then return false end
  end
  for k in next, b do
    if rawget(a, k) == nil then return false end
  end
  return true
end

local function show(value)
  local ok, literal = pcall(require, "fzlua.literal")
  return ok and literal.of(value) or tostring(value)
end

function t.equal(got, expected)
  if not same(got, expected) then
    error(("expected %s\n     got %s"):format(show(expected), show(got)), 2)
  end
end

function t.match(text, ...)
  for _, part in ipairs { ... } do
    if not tostring(text):find(part, 1, true) then
      error(("%q is not in:\n%s"):format(part, tostring(text)), 2)
    end
  end
end

---Call f(...), which must raise an fz.Error of this kind; returns it.
function t.fails(kind, f, ...)
  local ok, e = pcall(f, ...)
  if ok then error("nothing was raised", 2) end
  if getmetatable(e) ~= fz.Error then error("no fz.Error: " .. tostring(e), 2) end
  if e.kind ~= kind then error(("kind %s, not %s: %s"):format(e.kind, kind, tostring(e)), 2) end
  return e
end

---Call f(...), which must raise a text with the position of the test; returns it.
function t.wrong(f, ...)
  local ok, e = pcall(f, ...)
  if ok then error("nothing was raised", 2) end
  if type(e) ~= "string" then error("no text: " .. tostring(e), 2) end
  if not e:find "^[^:]*tests/[%w_/]+%.lua:%d+: " then error("no position: " .. e, 2) end
  return e
end

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

---The bytes of a file.
function t.read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

-- Names of temporary files. A test fails if it leaves one of these files.
local temporary, tmpname = {}, os.tmpname
os.tmpname = function() -- luacheck: ignore 122
  local path = tmpname()
  temporary[#temporary + 1] = path
  return path
end

-- A line for each temporary file that exists.
local function left_files()
  local left = {}
  for _, path in ipairs(temporary) do
    local file <close> = io.open(path)
    if file then left[#left + 1] = "file: " .. path end
  end
  temporary = {}
  return left[1] and table.concat(left, "\n")
end

---Write `text` to a new temporary file; returns its name. It is removed after the test.
function t.file(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  t.files[#t.files + 1] = path
  return path
end

t.files = {}

local least = 0
while arg[least - 1] do least = least - 1 end
t.fzlua = os.getenv "FZLUA" or arg[least]
if t.fzlua:find "^[^/]+/" then -- make the path absolute, because tests change the directory
  local pipe <close> = assert(io.popen "pwd")
  t.fzlua = pipe:read() .. "/" .. t.fzlua
end

-- Workers that share no memory with their parent announce several quick items together. If the
-- worker dies in one of them, all of these fail: see src/worker/link.h.
t.exact = os.getenv "FZLUA_LINK" ~= "stream" and os.getenv "FZLUA_START" ~= "spawn"

---@return integer n, or a part of it under a sanitizer, where forks and allocations are slow
function t.rounds(n)
  return os.getenv "ASAN_OPTIONS" and (n + 4) // 5 or n
end

-- Shell functions of each command. The limit is a time and no number of rounds, because rounds take
-- longer on a busy machine: the runner would end the test before the message is printed.
local SHELL <const> = ([[
# until_true COMMAND...: wait until it succeeds; false if it did not within PATIENCE seconds
until_true() {
  read until_now until_rest </proc/uptime; until_last=$((${until_now%%.*} + %d))
  until "$@" >/dev/null 2>&1; do
    read until_now until_rest </proc/uptime
    if test ${until_now%%.*} -gt $until_last; then
      echo "not true after %d s: $*" >&2; return 1
    fi
    sleep 0.02
  done
}
# is_gone PID: whether no process has this number
is_gone() { ! kill -0 $1; }
]]):format(PATIENCE, PATIENCE)

---Run a shell command in which $FZLUA is the command under test, and `until_true` and `is_gone` are
---functions. Signals have their default actions there, even if the tests run in the background of a
---shell.
---@return string out, string err, integer status 128 + signal if a signal ended it
function t.shell(command)
  local out, err = t.file "", t.file ""
  local _, how, code = os.execute(("FZLUA=%s env --default-signal sh -c %s >%s 2>%s"):format(
    quote(t.fzlua), quote(SHELL .. "(" .. command .. "\n)"), quote(out), quote(err)))
  local wrote, complained = t.read(out), t.read(err)
  os.remove(out) -- here, because a worker may be killed before its end
  os.remove(err)
  return wrote, complained, how == "signal" and 128 + code or code
end

---Run the command under test with these arguments, standard input empty.
function t.command(...)
  local words = { '"$FZLUA"' }
  for _, word in ipairs { ... } do words[#words + 1] = quote(word) end
  return t.shell(table.concat(words, " ") .. " </dev/null")
end

---Run `code` with arguments. It calls ready() just before it waits: when the command sleeps
---then, it gets SIGINT.
---@return string out, string err, integer status
function t.interrupt(code, ...)
  local ready = t.file ""
  os.remove(ready)
  local script = t.file(
    ("local function ready() io.open(%q, 'w'):close() end "):format(ready) .. code)
  return t.shell(([[
env --default-signal=INT "$FZLUA" %s %s </dev/null & pid=$!
state() { grep -q "^State:.$1" /proc/$pid/status; }
until_true eval 'test -e %s && state S || state Z || ! test -e /proc/$pid'
sleep 0.05; kill -INT $pid; wait $pid]]):format(script, table.concat({ ... }, " "), ready))
end

package.cpath = t.fzlua:match "^.*/" .. "tests/?.so;" .. package.cpath

---Sleep without handling events of fzlua.
---@type fun(seconds: number)
t.sleep = require "ltest".sleep

---Wait until f() is true.
function t.until_true(f)
  local deadline = fz.now() + PATIENCE
  while not f() do
    if fz.now() > deadline then error(("not true after %d s"):format(PATIENCE), 2) end
    t.sleep(0.01)
  end
end

---@return string mark for the environment of a command, MARK=mark, by which t.left_of finds
---all processes that it has started, also those that have left its process group
function t.mark()
  return ("%d-%d-%d"):format(os.time(), require "fzlua.core".pid(), math.random(1 << 40))
end

local LEFT <const> = [[
n=0
while left=$(grep -lz "^MARK=%s\$" /proc/[0-9]*/environ 2>/dev/null | grep -v "/$$/")
  test -n "$left" && test $n -lt %d
do sleep 0.1; n=$((n + 1)); done
for p in $left; do tr '\0' ' ' <${p%%environ}cmdline; echo; done]]

---Wait until no process has MARK=`mark` in its environment.
---@return string command lines of the processes that stay; "" if there are none
function t.left_of(mark)
  return (t.shell(LEFT:format(mark, PATIENCE * 10)))
end

---Wait until these processes sleep, which means that they wait. Their next step must be a wait.
function t.until_asleep(list)
  for _, p in ipairs(list) do
    local path = ("/proc/%d/stat"):format(p.pid)
    t.until_true(function() return t.read(path):match "%) (%a)" == "S" end)
  end
  t.sleep(0.02)
end

--- Whether a process exists and is not a zombie.
function t.is_running(pid)
  local file <close> = io.open(("/proc/%d/stat"):format(pid))
  return file ~= nil and file:read("a"):match "%) (%a)" ~= "Z"
end

---Start a process that calls f(...).
function t.start(f, ...)
  return fz.process(f, ...):start()
end

---@return any ... what f(...) returns in a process of its own
function t.elsewhere(f, ...)
  local p <close> = t.start(f, ...)
  return p:result()
end

---Call f(pool, workers) with a pool that has workers, and with one under -j0.
function t.both_pools(options, f)
  do
    local pool <close> = fz.pool(options)
    f(pool, true)
  end
  local _ <close> = t.in_this_process()
  local pool <close> = fz.pool(options)
  t.equal(pool.workers, {})
  f(pool, false)
end

---@return fun(): integer? iterator over 1, 2, ... n, without an end where n is nil
---@return fun(): integer read how far it was read
function t.counter(n)
  local i = 0
  return function()
    if i == n then return nil end
    i = i + 1
    return i
  end, function() return i end
end

---A check of the events of a progress function: each attempt has one start before its end. Only a
---call that never ran may end without a start.
---@return fun(event: table)
function t.event_order()
  local running = {}
  return function(event)
    local key = ("%s %s %s %s"):format(event.stage, event.output, event.index, event.element)
    if event.kind == "start" then
      assert(not running[key], key .. ": a second start")
      running[key] = true
    else
      local ran = event.pid or event.seconds
      assert(running[key] or not ran, key .. ": no start before " .. event.kind)
      running[key] = nil
    end
  end
end

---The list 1, 2, ... n.
function t.numbers(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

---Set the option -j of the command to 0 until the returned value is closed.
function t.in_this_process()
  local defaults = require "fzlua.defaults"
  defaults.jobs = 0
  return setmetatable({}, { __close = function() defaults.jobs = nil end })
end

local pid = t.read("/proc/self/stat"):match "^%d+"

---@return string children of this process and their names, "": it has none
function t.children()
  local list = {}
  for child in t.read(("/proc/%s/task/%s/children"):format(pid, pid)):gmatch "%d+" do
    local file <close> = io.open(("/proc/%s/comm"):format(child))
    list[#list + 1] = child .. " " .. (file and file:read() or "?")
  end
  return table.concat(list, "\n")
end

---@return integer number of open descriptors
function t.descriptors()
  local n = 0
  for fd = 0, tonumber(t.read("/proc/self/status"):match "FDSize:%s*(%d+)") - 1 do
    local file <close> = io.open("/proc/self/fdinfo/" .. fd)
    if file then n = n + 1 end
  end
  return n
end

-- Wait until the test has left no child and no descriptor: objects may need a moment to end.
-- Returns nil, or a text with those that are left.
local function left_over(before)
  local deadline = fz.now() + PATIENCE
  repeat
    collectgarbage()
    collectgarbage()
    local kids, n = t.children(), t.descriptors()
    if kids == "" and n <= before then return nil end
    if fz.now() > deadline then
      if kids ~= "" then return "children: " .. kids end
      return io.popen("ls -l /proc/" .. pid .. "/fd"):read "a"
    end
    require "fzlua.core".poll() -- reaps children that have died late
    t.sleep(0.02)
  until false
end

-- Descriptors that fzlua opens once and keeps are not leaks, so let it open them first.
local function warm_up()
  local stage = fz.stage "warm"
  stage:register("A", function(a) return a end)
  local chain <close> = fz.chain { stage }
  chain:invoke { A = ("x"):rep(1 << 22) }
end

local function sorted(tests)
  local names = {}
  for name in pairs(tests) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local passed, failed = 0, 0
local skips = os.getenv "FZLUA_START" == "spawn" and dofile "tests/spawn_skips.lua" or {}

local function run(name, f)
  io.write(name)
  io.flush()
  local start = fz.now()
  local before = t.descriptors()
  local ok, e = xpcall(f, function(e)
    return debug.traceback(tostring(e), 2)
  end)
  for _, path in ipairs(t.files) do os.remove(path) end
  t.files = {}
  local left = left_over(before) or left_files()
  if ok and left then ok, e = false, "left over:\n" .. left end
  if ok then
    passed = passed + 1
    print((" ok %.2f s"):format(fz.now() - start))
  else
    failed = failed + 1
    print((" FAILED %.2f s\n%s\n"):format(fz.now() - start, e))
  end
  io.flush()
end

-- Each skipped test must exist: a test may have been renamed.
local function check_skips(noun, tests)
  for full in pairs(skips) do
    local of, name = full:match "^([^:]+): (.*)$"
    if of == noun and not tests[name] then error("tests/spawn_skips.lua: no test " .. full, 0) end
  end
end

warm_up()
local only = os.getenv "FZLUA_TEST" -- a part of the names of the tests to run
for _, path in ipairs(arg) do
  local noun, tests = path:match "([^/]+)%.lua$", assert(loadfile(path))(t)
  check_skips(noun, tests)
  for _, name in ipairs(sorted(tests)) do
    local full = ("%s: %s"):format(noun, name)
    if skips[full] then
      print(("%s skipped: %s"):format(full, skips[full]))
    elseif not only or full:find(only, 1, true) then
      run(full, tests[name])
    end
  end
end
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0, true)
