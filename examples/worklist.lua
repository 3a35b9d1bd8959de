-- worklist.lua: all dependencies of a package, found by three workers that share a list of work.
--
--   fzlua examples/worklist.lua                  what gcc needs, in examples/data/packages.txt
--   fzlua examples/worklist.lua bash FILE        another package, another Debian index
--
-- Shows fz.manager. Work creates more work: the dependencies of a package are added to the list
-- unless a worker has seen them before. The list, the set of seen packages and the number of
-- unfinished ones are in the manager's process, and are used like local tables.

local fz = require "fzlua"

local WORKERS <const> = 3

local here = arg[0]:match("^(.-)[^/]*$")
local wanted, path = arg[1] or "gcc", arg[2] or here .. "data/packages.txt"

-- name -> names of the packages that it depends on; of alternatives only the first
local function read_packages()
  local file <close> = assert(io.open(path, "rb"))
  local packages = {}
  for entry in (file:read("a") .. "\n\n"):gmatch("(.-)\n\n+") do
    local name, needs = entry:match("Package: (%S+)"), {}
    for field in entry:gmatch("\n[PreD-]*Depends: ([^\n]*)") do
      for word in field:gmatch("([%w.+-]+)[^,]*") do needs[#needs + 1] = word end
    end
    if name then packages[name] = needs end
  end
  return packages
end

local packages = read_packages()
local manager <close> = fz.manager()
local todo, seen, count = manager:list(), manager:dict(), manager:dict{open = 0}

-- The first worker that sees a name adds it to the list.
local function add(name)
  if packages[name] and seen:incr(name) == 1 then
    count:incr("open")
    todo:append(name)
  end
end

-- A worker does not end at an empty list while another has work, because that worker may add more.
local function work()
  local done = 0
  while count.open > 0 do
    local name = todo:pop()
    if name then
      for _, needed in ipairs(packages[name]) do add(needed) end
      count:incr("open", -1)
      done = done + 1
    end
  end
  return done
end

add(wanted)
local workers, done = {}, 0
for i = 1, WORKERS do workers[i] = fz.process(work):start() end
for _, worker in ipairs(workers) do done = done + worker:result() end

local names, column = {}, 0
for name in pairs(seen) do names[#names + 1] = name end
table.sort(names)
print(("%s needs %d packages; each was looked at once: %s"):format(wanted, #names - 1,
  done == #names))
for _, name in ipairs(names) do
  if column + #name > 78 then
    print()
    column = 0
  end
  io.write("  ", name)
  column = column + #name + 2
end
print()
