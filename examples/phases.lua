-- phases.lua: four processes draw one picture, line by line.
--
--   fzlua examples/phases.lua
--
-- Shows fz.barrier. A cell is alive if exactly one of the cells above it, left and right, is alive.
-- Each process has a quarter of the width, and needs the cells of its neighbours at its edges. So
-- no process begins a line before all processes have ended the line above: each line is a phase.

local fz = require "fzlua"

local WIDTH <const>, HEIGHT <const>, PAINTERS <const> = 64, 32, 4

local cells = fz.array("B", WIDTH * HEIGHT)
local barrier = fz.barrier(PAINTERS)

local function place(x, y) return (y - 1) * WIDTH + x end

local function draw(from, to)
  for y = 2, HEIGHT do
    for x = from, to do
      local left = x > 1 and cells[place(x - 1, y - 1)] or 0
      local right = x < WIDTH and cells[place(x + 1, y - 1)] or 0
      cells[place(x, y)] = left ~ right
    end
    barrier:wait()
  end
end

cells[WIDTH // 2] = 1
local painters, width = {}, WIDTH // PAINTERS
for i = 1, PAINTERS do painters[i] = fz.process(draw, (i - 1) * width + 1, i * width):start() end
for _, p in ipairs(painters) do p:result() end

for y = 1, HEIGHT do
  local row = cells:slice(place(1, y), place(WIDTH, y))
  for x, alive in ipairs(row) do row[x] = alive == 1 and "*" or " " end
  print((table.concat(row):gsub(" +$", "")))
end
