-- The examples for C hosts in examples/embed. Tests that need luasocket are skipped without it.
local t = ...
local tests = {}

local BIN <const> = t.fzlua:match "^.*/" .. "examples/embed/"

local function run(command, environment)
  local out, err, status = t.shell((environment or "") .. BIN .. command)
  t.equal(err, "")
  t.equal(status, 0)
  return out
end

tests["C functions are a chain"] = function()
  t.equal(run "hello", "C = 42\n")
end

tests["the examples of fzlua.3 run"] = function()
  local version = t.shell(t.fzlua .. " --version"):match "%d[%d.]*"
  t.equal(run "functions examples/embed/functions.lua", "fzlua " .. version .. [[

worker, to 1: hello
end of the pipe: 1
7 12
process
area 144
task 1: slept
task 0: slept
cancelled: 1
limited: 1
interrupted: 1
]])
end

tests["a script is called from C++"] = function()
  t.equal(run "hello_cpp", "total = 30\n")
end

tests["a user's pipeline calls functions of the host"] = function()
  t.equal(run "app examples/embed/app.lua 86 40", "30.0 C, dew point 18.0 C, percent\n")
end

tests["an endless or broken pipeline of a user is an error of the host"] = function()
  local stage = "local s = fz.stage 's' function s.text(fahrenheit) %s end return fz.chain{s}"
  for code, message in pairs {
    ["while true do pcall(error) end"] = "ran longer than its limit",
    [stage:format "while true do end"] = "timeout",
    ["return +"] = "unexpected symbol",
    ["local s = 'x' while true do s = s .. s end"] = "not enough memory",
    ["return app.unit_of 'speed'"] = "no unit of speed",
  } do
    local out, err, status = t.shell(("%sapp %s 1 1"):format(BIN, t.file(code)))
    t.equal(out, "")
    t.match(err, "app: ", message)
    t.equal(status, 1)
  end
end

tests["each of eight threads has its workers"] = function()
  -- Under the address sanitizer a thread must not allocate while another one forks, see
  -- support/sanitized.h. The workers are spawned then, without a fork.
  local spawn = os.getenv "ASAN_OPTIONS" and "FZLUA_START=spawn FZLUA_WORKER_COMMAND=$FZLUA " or ""
  local n = t.rounds(20)
  t.equal(run("threads " .. n, spawn), ("%d workers in 8 threads\n"):format(8 * n))
end

if not pcall(require, "socket") then return tests end
local socket = require "socket"

local Server <const> = {}
Server.__index = Server

-- Start the server. It ends when the variable with the returned object is closed.
local function serve(script, jobs)
  local pipe = assert(io.popen(("echo $$; exec %sserver %s 0 %d"):format(BIN, script, jobs)))
  local pid = pipe:read "n"
  return setmetatable({ pipe = pipe, pid = pid, port = pipe:read "n" }, Server)
end

function Server:__close()
  os.execute(("kill %d 2>/dev/null"):format(self.pid))
  self.pipe:close()
end

function Server:connect()
  local client = assert(socket.connect("127.0.0.1", self.port))
  client:settimeout(60)
  return client
end

-- The children of the server: its workers.
function Server:workers()
  local file <close> = assert(io.open(("/proc/%d/task/%d/children"):format(self.pid, self.pid)))
  local pids = {}
  for pid in file:read("a"):gmatch "%d+" do pids[#pids + 1] = pid end
  return pids
end

local function ask(client, line)
  assert(client:send(line .. "\n"))
  return assert(client:receive())
end

tests["a server runs a chain for each line of its clients"] = function()
  local server <close> = serve("examples/embed/server.lua", 2)
  local client = server:connect()
  t.equal(ask(client, "one two One"), "one=2 two=1")
  t.equal(ask(client, ""), "")
  client:send "a b\nc\n\nlast a a"
  t.equal(client:receive(), "a=1 b=1")
  t.equal(client:receive(), "c=1")
  t.equal(client:receive(), "")
  client:close()
end

tests["the end of a connection reaches the client though workers run"] = function()
  local server <close> = serve("examples/embed/server.lua", 2)
  local first, second = server:connect(), server:connect()
  t.equal(ask(first, "one"), "one=1") -- forks workers, which inherit both sockets
  second:shutdown "send"
  t.equal(select(2, second:receive()), "closed")
  first:close()
end

local SLOW <const> = [[
local s = fz.stage "s"
s:register("answer", "line", function(line)
  local seconds = tonumber(line)
  if seconds then fz.sleep(seconds) end
  return line
end)
return fz.chain({s}, {jobs = 8})
]]

tests["a slow request delays no other client"] = function()
  local server <close> = serve(t.file(SLOW), 8)
  local slow, quick = server:connect(), server:connect()
  slow:send "60\n"
  for i = 1, 50 do t.equal(ask(quick, "x" .. i), "x" .. i) end
  slow:close()
  quick:close()
end

tests["200 clients get their answers though workers are killed"] = function()
  local server <close> = serve("examples/embed/server.lua", 2)
  local clients, answers, failed = {}, 0, 0
  for i = 1, 200 do clients[i] = server:connect() end
  for round = 1, 4 do
    for i, client in ipairs(clients) do client:send(("w%s w%s x\n"):format(
      ("a"):rep(i), ("b"):rep(round))) end
    for i, client in ipairs(clients) do
      if i % 25 == 0 then
        local workers = server:workers()
        local pid = workers[math.random(math.max(#workers, 1))]
        if pid then os.execute(("kill -9 %s 2>/dev/null"):format(pid)) end
      end
      local answer = assert(client:receive())
      if answer:find "x=1" then
        t.equal(answer, ("wa%s=1 w%s=1 x=1"):format(("a"):rep(i - 1), ("b"):rep(round)))
        answers = answers + 1
      else
        t.match(answer, "worker")
        failed = failed + 1
      end
    end
  end
  t.equal(answers + failed, 800)
  assert(answers > 700, "too many errors: " .. failed)
  for _, client in ipairs(clients) do client:close() end
end

tests["load.c measures the server with workers and without"] = function()
  local out = run(("load 20 2 8 %sserver examples/embed/server.lua 2 0"):format(BIN))
  local rows = {}
  for jobs, rate, errors in out:gmatch "\n *(%d+) +(%d+) +[%d.]+ +[%d.]+ +(%d+)" do
    rows[#rows + 1] = { tonumber(jobs), tonumber(rate) > 0, tonumber(errors) }
  end
  t.equal(rows, { { 2, true, 0 }, { 0, true, 0 } })
end

tests["a killed server leaves no worker"] = function()
  local server <close> = serve("examples/embed/server.lua", 2)
  ask(server:connect(), "one")
  local workers = server:workers()
  assert(#workers > 0)
  os.execute("kill -9 " .. server.pid)
  for _, pid in ipairs(workers) do
    t.until_true(function() return not t.is_running(pid) end)
  end
end

return tests
