-- accesslog.lua: a report on the log of a web server, made in two ways.
--
--   fzlua examples/accesslog.lua                        a small log, made for this run
--   fzlua examples/accesslog.lua make 200M access.log   writes a log of 200 MB
--   fzlua examples/accesslog.lua map access.log         each worker reads a part of the file
--   fzlua examples/accesslog.lua fold access.log        the script reads the file, in pieces
--
-- Shows fz.map and fz.fold. An item of the map is a place in the file: the worker reads the bytes
-- from there itself, and returns one table. An item of the fold is a piece of text, which may come
-- from any source. Each worker adds its pieces to one table, and the script merges these tables.
-- doc/from-parallel.md compares both ways with awk and GNU parallel.

local fz = require "fzlua"

local TOP <const> = 3
local PART <const> = 1 << 20 -- bytes that a call of the map reads
-- A match begins where the last one ended: `[^"]*` is faster than a search from each byte.
local REQUEST <const> = '[^"]*"%u+ (%S+) %S+ (%d)%d%d (%d+)'

local UNITS <const> = {K = 1 << 10, M = 1 << 20, G = 1 << 30}

-- Write lines of a log to `path` until it has `size` bytes. The numbers are those of a small
-- generator, so that each log of one size has the same bytes.
local function make(size, path)
  local file <close> = assert(io.open(path, "wb"))
  local state, second = 1, 0
  local function random(n)
    state = state * 1103515245 + 12345 & 0x7fffffff
    return (state >> 8) % n
  end
  local pages <const> = {"/", "/about", "/search", "/cart", "/login"}
  local written = 0
  while written < size do
    second = second + random(3)
    local page = pages[random(9)] or "/item/" .. random(200)
    local status = random(20) == 0 and 500 or random(10) == 0 and 404 or 200
    local line = ('10.0.%d.%d - - [28/Nov/2026:%02d:%02d:%02d +0000] "GET %s HTTP/1.1" %d %d\n')
      :format(random(4), random(256), second // 3600 % 24, second // 60 % 60, second % 60, page,
        status, 200 + random(20000))
    file:write(line)
    written = written + #line
  end
end

local function empty() return {requests = 0, bytes = 0, status = {}, pages = {}} end

-- Add the requests of a text to a report.
local function add(report, text)
  local status, pages = report.status, report.pages
  local requests, sum = 0, 0
  for page, class, bytes in text:gmatch(REQUEST) do
    requests, sum = requests + 1, sum + tonumber(bytes)
    status[class] = (status[class] or 0) + 1
    pages[page] = (pages[page] or 0) + 1
  end
  report.requests, report.bytes = report.requests + requests, report.bytes + sum
  return report
end

local function add_up(totals, counts)
  for key, n in pairs(counts) do totals[key] = (totals[key] or 0) + n end
end

local function merge(a, b)
  a.requests, a.bytes = a.requests + b.requests, a.bytes + b.bytes
  add_up(a.status, b.status)
  add_up(a.pages, b.pages)
  return a
end

-- A report on the lines that begin in one part of a file.
local function report_on_part(path, from)
  local file <close> = assert(io.open(path, "rb"))
  if from > 0 then
    file:seek("set", from - 1)
    file:read "L" -- the end of a line that began before this part
  end
  local left = from + PART - file:seek()
  if left <= 0 then return empty() end
  local text = file:read(left) or ""
  if text:byte(-1) ~= 10 then text = text .. (file:read "L" or "") end
  return add(empty(), text)
end

local ways = {}

function ways.map(path)
  local file <close> = assert(io.open(path, "rb"))
  local parts = {}
  for from = 0, file:seek "end" - 1, PART do parts[#parts + 1] = from end
  local report = empty()
  for _, part in ipairs(fz.map(function(from) return report_on_part(path, from) end, parts)) do
    merge(report, part)
  end
  return report
end

function ways.fold(path)
  return fz.fold(add, fz.chunks(path), empty(), merge)
end

-- Keys in the order of their counts. Keys with equal counts are in the order of their letters.
local function most_frequent(counts)
  local keys = {}
  for key in pairs(counts) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] > counts[b] end
    return a < b
  end)
  return keys
end

local function print_report(report)
  print(("%d requests, %.1f MB"):format(report.requests, report.bytes / 1e6))
  for class = 1, 5 do
    local n = report.status[tostring(class)]
    if n then print(("%dxx %8d"):format(class, n)) end
  end
  local pages = most_frequent(report.pages)
  for i = 1, math.min(TOP, #pages) do
    print(("%8d  %s"):format(report.pages[pages[i]], pages[i]))
  end
end

-- Print the report on a file, and on standard error the time that it took.
local function timed(way, path)
  local start = fz.now()
  print_report(way(path))
  io.stderr:write(("%.2f s\n"):format(fz.now() - start))
end

-- Both ways on a log of 3 MB, which is removed afterwards.
local function compare()
  local path = os.tmpname()
  local _ <close> = setmetatable({}, {__close = function() os.remove(path) end})
  make(3 << 20, path)
  for _, way in ipairs{"map", "fold"} do
    print("\nby " .. way)
    print_report(ways[way](path))
  end
end

-- The bytes of a size such as 200M.
local function bytes_of(size)
  local n, unit = size:match "^(%d+)([KMG]?)$"
  return assert(tonumber(n), "a size such as 200M expected") * (UNITS[unit] or 1)
end

local command <const>, path <const> = arg[1], arg[#arg]
if not command then
  compare()
elseif command == "make" then
  make(bytes_of(arg[2]), path)
else
  timed(assert(ways[command], "make, map or fold expected"), path)
end
