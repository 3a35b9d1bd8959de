-- mandelbrot.lua - a picture whose rows are computed wherever there are slots.
--
--   fzlua examples/cluster/mandelbrot.lua                         on this machine
--   fzlua --engine URL examples/cluster/mandelbrot.lua            on the nodes of an engine
--
-- The script does not know which: it prints the same. Arguments: width, height, the maximum number
-- of steps for a point.

local fz = require "fzlua"

local SHADES <const> = " .:-=+*#%@"

-- The steps until the point leaves the circle of radius 2.
local function steps(cx, cy, limit)
  local x, y = 0, 0
  for n = 1, limit do
    x, y = x * x - y * y + cx, 2 * x * y + cy
    if x * x + y * y > 4 then return n end
  end
  return limit
end

-- The numbers of a row of the picture.
local function row_of(y, width, height, limit)
  local row = {}
  for x = 1, width do
    row[x] = steps(3 * x / width - 2.2, 2.4 * y / height - 1.2, limit)
  end
  return row
end

local dag = fz.dag()

dag:add("rows", "height", function(height)
  local list = {}
  for y = 1, height do list[y] = y end
  return list
end)

dag:map("counts", {"rows", "width", "height", "limit"}, row_of)

dag:add("picture", {"counts", "limit"}, function(counts, limit)
  local lines = {}
  for y, row in ipairs(counts) do
    local shades = {}
    for x, n in ipairs(row) do
      local i = n == limit and #SHADES or n % (#SHADES - 1) + 1
      shades[x] = SHADES:sub(i, i)
    end
    lines[y] = table.concat(shades):gsub(" +$", "")
  end
  return table.concat(lines, "\n")
end)

dag:add("steps", "counts", function(counts)
  local sum = 0
  for _, row in ipairs(counts) do
    for _, n in ipairs(row) do sum = sum + n end
  end
  return sum
end)

local output = dag:invoke({
  width = tonumber(arg[1]) or 64, height = tonumber(arg[2]) or 24, limit = tonumber(arg[3]) or 500,
}).output
print(output.picture)
print(("%d steps"):format(output.steps))
dag:close()
