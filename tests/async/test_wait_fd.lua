-- test_wait_fd.lua - waits for descriptors of the script.

local t = ...
local fz = require "fzlua"

local tests = {}

local DEADLINE <const> = 30

local function is_open(fd)
  local info <close> = io.open("/proc/self/fdinfo/" .. fd)
  return info ~= nil
end

-- Returns the number of the descriptor that open() opens, and the file, which keeps it open.
local function descriptor_of(open)
  local before = {}
  for fd = 0, 255 do before[fd] = is_open(fd) end
  local file = open()
  for fd = 0, 255 do
    if is_open(fd) and not before[fd] then return fd, file end
  end
  error "no descriptor was opened"
end

-- A shell command that ends when the file `go` exists.
local function await_file(go)
  return ("until test -e %s; do sleep 0.01; done"):format(go)
end

-- The name of a file that does not exist.
local function new_name()
  local go = t.file ""
  os.remove(go)
  return go
end

local function create(go)
  io.open(go, "w"):close()
end

-- A pipe from a shell command.
local function pipe_from(command)
  return descriptor_of(function() return assert(io.popen(command)) end)
end

tests["a task waits until it can read, and others run"] = function()
  local go = new_name()
  local fd, pipe = pipe_from(await_file(go) .. "; echo hello")
  local ticks = 0
  local ticker = fz.spawn(function()
    while true do
      ticks = ticks + 1
      if ticks == 5 then create(go) end
      fz.sleep(0.01)
    end
  end)
  local line = fz.spawn(function()
    assert(fz.wait_fd(fd, "r", DEADLINE))
    return pipe:read()
  end):await(DEADLINE)
  ticker:cancel()
  pipe:close()
  t.equal(line, "hello")
end

tests["outside of a task it waits as well, and a timeout returns nil"] = function()
  local go = new_name()
  local fd, pipe = pipe_from(await_file(go) .. "; echo hello")
  t.equal({ fz.wait_fd(fd, "r", 0.01) }, { nil, "timeout" })
  create(go)
  t.equal({ fz.wait_fd(fd, "r") }, { true })
  t.equal(pipe:read(), "hello")
  t.equal({ fz.wait_fd(fd, "r") }, { true }) -- EOF counts as ready
  pipe:close()
end

tests["several tasks wait for one descriptor"] = function()
  local fd, pipe = pipe_from "sleep 0.1; echo hello"
  local tasks = {}
  for i = 1, 3 do
    tasks[i] = fz.spawn(function() return fz.wait_fd(fd, "r", DEADLINE) end)
  end
  local cancelled = fz.spawn(function() return fz.wait_fd(fd, "r", DEADLINE) end)
  fz.sleep(0.001)
  cancelled:cancel()
  t.equal(fz.await(tasks, DEADLINE), { true, true, true, n = 3 })
  pipe:close()
end

tests["a pipe with room can be written to, and one without it cannot"] = function()
  local go = new_name()
  local fd, pipe = descriptor_of(function()
    return assert(io.popen(await_file(go) .. "; cat >/dev/null", "w"))
  end)
  t.equal(fz.wait_fd(fd, "w", DEADLINE), true)
  pipe:setvbuf "no"
  pipe:write(("x"):rep(65536))
  t.equal({ fz.wait_fd(fd, "w", 0.01) }, { nil, "timeout" })
  create(go)
  t.equal(fz.wait_fd(fd, "w", DEADLINE), true)
  pipe:close()
end

tests["a descriptor may be a float, as luasocket returns it"] = function()
  local fd, pipe = pipe_from "echo hello"
  t.equal(fz.wait_fd(fd + 0.0, "r", DEADLINE), true)
  pipe:close()
end

tests["a regular file is ready at once"] = function()
  local fd, file = descriptor_of(function() return assert(io.open(t.file "text")) end)
  t.equal(fz.wait_fd(fd, "r", DEADLINE), true)
  file:close()
end

tests["a descriptor that is not open, and wrong arguments, raise"] = function()
  local fd, file = descriptor_of(function() return assert(io.open(t.file "text")) end)
  file:close()
  t.match(t.wrong(function() fz.wait_fd(fd, "r") end), "#1", ("descriptor %d: Bad file"):format(fd))
  t.match(t.wrong(function() fz.wait_fd(io.stdin, "r") end), "fz.wait_fd", "descriptor expected")
  t.match(t.wrong(function() fz.wait_fd(0.5, "r") end), "descriptor expected, got 0.5")
  t.match(t.wrong(function() fz.wait_fd(-1, "r") end), "descriptor expected, got -1")
  t.match(t.wrong(function() fz.wait_fd(0, "x") end), "fz.wait_fd")
  t.match(t.wrong(function() fz.wait_fd(0, "r", "soon") end), "#3 to 'fz.wait_fd' (number")
end

tests["a worker does not have the waits of its parent"] = function()
  local fd, pipe = pipe_from "sleep 0.2; echo hello"
  local waits = fz.spawn(function() return fz.wait_fd(fd, "r", DEADLINE) end)
  fz.sleep(0)
  local pool <close> = fz.pool(1)
  t.equal(pool:apply(function() return "from a worker" end), "from a worker")
  t.equal(waits:await(DEADLINE), true)
  pipe:close()
end

return tests
