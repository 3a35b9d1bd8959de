-- The watchdog of a test program: fzlua tests/watchdog.lua PID MARK LIMIT
--
-- Ends process PID and all below it if no process of one test runs for LIMIT seconds in
-- all, or if one test takes BUSY times as long. The file MARK holds the name of the test;
-- a new name starts a new count. Time in which a process was ready to run and had no
-- processor does not count, so that a slow or busy machine is not taken for a hang.
-- /proc/PID/schedstat has both times, the running one first; without it, wall time counts.

local TICK <const> = 1 -- seconds between two looks
local BUSY <const> = 5

local pid, mark, limit = math.tointeger(arg[1]), arg[2], tonumber(arg[3])

local function read(path)
  local file <close> = io.open(path)
  return file and file:read "a"
end

---`root` and its descendants, parents first.
---@return integer[]
local function tree(root)
  local children = {}
  local ps <close> = assert(io.popen "exec ps -e -o ppid= -o pid=")
  for parent, child in ps:read("a"):gmatch "(%d+)%s+(%d+)" do
    parent = math.tointeger(parent)
    children[parent] = children[parent] or {}
    table.insert(children[parent], math.tointeger(child))
  end
  local list = { root }
  for _, p in ipairs(list) do
    table.move(children[p] or {}, 1, #(children[p] or {}), #list + 1, list)
  end
  return list
end

local looked = {} -- pid -> its two times at the last look, in seconds

---What the tree did since the last call: the longest that one process was ready to run
---and had no processor, and the longest that one ran.
---@return number waited, number ran seconds
local function busy()
  local now, waited, ran = {}, 0, 0
  for _, p in ipairs(tree(pid)) do
    local run, wait = (read(("/proc/%d/schedstat"):format(p)) or ""):match "^(%d+) (%d+)"
    local last = looked[p] or { run = 0, wait = 0 }
    now[p] = { run = (tonumber(run) or 0) / 1e9, wait = (tonumber(wait) or 0) / 1e9 }
    waited = math.max(waited, now[p].wait - last.wait)
    ran = math.max(ran, now[p].run - last.run)
  end
  looked = now
  return waited, ran
end

---Write what each process of the tree does, for the reader of the log.
local function describe()
  for _, p in ipairs(tree(pid)) do
    local dir = ("/proc/%d/"):format(p)
    local words = (read(dir .. "cmdline") or ""):gsub("%z", " "):sub(1, 100)
    local state = (read(dir .. "stat") or ""):match "%) (%a)"
    local stack = (read(dir .. "stack") or ""):gsub("%[<%x+>%] ", ""):gsub("\n", " < "):sub(1, 300)
    io.stderr:write(("watchdog: %d %s %s\n          in %s, call %s\n"):format(
      p, state or "?", words, stack, (read(dir .. "syscall") or "?"):gsub("\n", "")))
  end
end

---Kill the tree, children first. The program is stopped, so that it starts no others.
local function kill()
  os.execute("kill -STOP " .. pid)
  local list = tree(pid)
  for i = #list, 1, -1 do os.execute("kill -KILL " .. list[i]) end
end

local function is_running()
  local stat = read(("/proc/%d/stat"):format(pid))
  return stat ~= nil and stat:match "%) (%a)" ~= "Z"
end

busy()
local name, time = nil, fz.now()
local idle, total = 0, 0 -- seconds of this test: nothing ran; all but time without processor
while is_running() do
  local current = read(mark)
  if not current then break end
  local now = fz.now()
  local waited, ran = busy()
  local passed = math.max(0, now - time - waited)
  idle, total = idle + math.max(0, passed - ran), total + passed
  time = now
  if current ~= name then name, idle, total = current, 0, 0 end
  if idle > limit or total > BUSY * limit then
    io.stderr:write(("watchdog: hangs in %s\n"):format(name))
    describe()
    kill()
    break
  end
  os.execute("exec sleep " .. TICK)
end
os.remove(mark)
