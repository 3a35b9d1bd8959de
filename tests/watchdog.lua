-- The watchdog of a test program: fzlua tests/watchdog.lua PID MARK LIMIT
--
-- Ends process PID and all below it if one test takes more than LIMIT seconds. The
-- file MARK holds the name of the test; a new name starts a new count. Time in which
-- a process of the test was ready to run and had no processor does not count, so
-- that a slow or busy machine is not taken for a hang. The kernel tells that time as
-- the second number of /proc/PID/schedstat; if it does not, wall time counts.

local TICK <const> = 1 -- seconds between two looks

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

local waited = {} -- pid -> seconds that it has waited for a processor so far

---The longest that one process of the tree has waited since the last call.
---@return number seconds
local function longest_wait()
  local now, longest = {}, 0
  for _, p in ipairs(tree(pid)) do
    local ns = (read(("/proc/%d/schedstat"):format(p)) or ""):match "^%d+ (%d+)"
    now[p] = (tonumber(ns) or 0) / 1e9
    longest = math.max(longest, now[p] - (waited[p] or 0))
  end
  waited = now
  return longest
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

longest_wait()
local name, spent, time = nil, 0, fz.now()
while is_running() do
  local current = read(mark)
  if not current then break end
  local now = fz.now()
  spent = spent + math.max(0, now - time - longest_wait())
  time = now
  if current ~= name then name, spent = current, 0 end
  if spent > limit then
    io.stderr:write(("watchdog: hangs in %s\n"):format(name))
    kill()
    break
  end
  os.execute("exec sleep " .. TICK)
end
os.remove(mark)
