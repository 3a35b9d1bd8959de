-- tail.lua: follows the log of a web server until Ctrl-C.
--
--   fzlua examples/tail.lua /var/log/nginx/access.log
--
-- Shows a stream without an end. The source reads what is new in the file every tenth of a second,
-- also if the file is cut short or replaced by another one (logrotate). The text goes through the
-- stages parse and count, whose workers serve different texts at the same time; the loop reports
-- failed requests as they come, and all counts at Ctrl-C.

local fz = require "fzlua"

local PAUSE <const> = 0.1 -- seconds between two reads that find nothing
local PIECE <const> = 1 << 20 -- maximum number of bytes of a read
local HEAD <const> = 64 -- bytes at the start of a log, which differ from those of the next log

local path = arg[1]
if not path then
  io.stderr:write "usage: fzlua tail.lua FILE\n"
  os.exit(2)
end

-- Whether the path names another file now, or the same one after it was cut short.
local function is_replaced(head, size)
  local file <close> = io.open(path, "rb")
  return file and (file:seek "end" < size or file:seek "set" == 0 and file:read(#head) ~= head)
end

-- Yield the new lines of one file until it is replaced. Then read it once more, so that no line of
-- the old file is lost.
local function follow_file(file)
  local head, size, rest = "", 0, ""
  repeat
    local is_last = size > 0 and is_replaced(head, size)
    local text = file:read(PIECE) or ""
    head, size, rest = (head .. text):sub(1, HEAD), size + #text, rest .. text
    local lines = rest:match "^.*\n" or ""
    rest = rest:sub(#lines + 1)
    if lines ~= "" then coroutine.yield(lines) end
    if text == "" then fz.sleep(PAUSE) end
  until is_last or size == 0
end

-- Yield the new lines of the file that has the path at that moment.
local function follow()
  while true do
    local file <close> = io.open(path, "rb")
    if file and file:seek "end" > 0 then
      file:seek "set"
      follow_file(file)
    else
      fz.sleep(PAUSE)
    end
  end
end

local parse = fz.stage "parse"
function parse.requests(text)
  local requests = {}
  for line in text:gmatch "[^\n]+" do
    local name, status, bytes = line:match '"%u+ (%S+)[^"]*" (%d%d%d) (%d+)'
    requests[#requests + 1] = {path = name, status = status or "odd", bytes = bytes or 0}
  end
  return requests
end

-- A stage of its own, which works on one text while parse works on the next one.
local count = fz.stage "count"
function count.summary(requests)
  local summary = {bytes = 0, counts = {}, failed = {}}
  for _, request in ipairs(requests) do
    local status = request.status
    summary.bytes = summary.bytes + request.bytes
    summary.counts[status] = (summary.counts[status] or 0) + 1
    if status:find "^5" then table.insert(summary.failed, request) end
  end
  return summary
end

local chain <close> = parse >> count
local bytes, counts = 0, {}

local function report()
  for _, out in chain:stream(coroutine.wrap(follow)) do
    for _, request in ipairs(out.summary.failed) do print(request.status, request.path) end
    bytes = bytes + out.summary.bytes
    for status, n in pairs(out.summary.counts) do counts[status] = (counts[status] or 0) + n end
  end
end

assert(io.open(path, "rb")):close()
io.stdout:setvbuf "line"
local _, e = pcall(report)
if not tostring(e):find "interrupted" then error(e, 0) end

local statuses = {}
for status in pairs(counts) do statuses[#statuses + 1] = status end
table.sort(statuses)
for _, status in ipairs(statuses) do print(("%s %4d requests"):format(status, counts[status])) end
print(("%d bytes"):format(bytes))
