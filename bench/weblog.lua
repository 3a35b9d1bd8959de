--- weblog.lua - logs of a web server, for rows that read them.

local weblog = {}

local LINE <const> =
  '10.0.%d.%d - - [28/Nov/2026:17:%02d:%02d +0000] "GET /page/%d HTTP/1.1" %d %d\n'
local STATUS <const> = { 200, 200, 200, 304, 404, 500 }
local PIECE_LINES <const> = 20000

-- Some lines of a log, and the sum of their bytes.
local function piece()
  local lines, sum = {}, 0
  for i = 1, PIECE_LINES do
    local bytes = i * 7919 % 100000
    lines[i] = LINE:format(i >> 8 & 255, i & 255, i // 60 % 60, i % 60, i % 997,
      STATUS[i % #STATUS + 1], bytes)
    sum = sum + bytes
  end
  return table.concat(lines), sum
end

---A log of about `size` bytes in `folder`, which stays there for later rows.
---@return string path
---@return string sum of its bytes field
function weblog.path(size, folder)
  local text, sum = piece()
  local pieces, path = math.ceil(size / #text), ("%slog-%d"):format(folder, size)
  local there <close> = io.open(path, "rb")
  if not there or there:seek "end" ~= pieces * #text then
    local file <close> = assert(io.open(path, "wb"))
    for _ = 1, pieces do assert(file:write(text)) end
  end
  return path, tostring(pieces * sum)
end

return weblog
