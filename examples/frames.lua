-- frames.lua: pictures of a camera through a pipeline, one after the other and as a stream.
--
--   fzlua examples/frames.lua                 24 frames
--   fzlua -j12 examples/frames.lua 400 rate   400 frames, and how many a second
--
--   boxes -+-> size  -+-> line
--          +-> class -+
--
-- An invoke for each frame takes the time of all functions that depend on each other. A stream has
-- several frames in each stage, so only the slowest stage counts: each of the four detectors takes
-- 20 ms for a frame, so a frame is ready every 5 ms.

local fz = require "fzlua"

local WIDTH <const>, HEIGHT <const> = 24, 8
local FRAMES <const> = tonumber(arg and arg[1]) or 24
local RATE <const> = arg ~= nil and arg[2] == "rate"

-- A device that takes its time without needing a processor. The event is never set.
local device = fz.event()
local function takes(seconds) device:wait(seconds) end

-- A picture: `n` rectangles on a dark ground.
local function frame(n)
  local rows = {}
  for y = 1, HEIGHT do
    local row = {}
    for x = 1, WIDTH do
      local bright = (x + n) % 7 < 3 and (y + n * x // 7) % 4 < 2
      row[x] = bright and "#" or "."
    end
    rows[y] = table.concat(row)
  end
  return rows
end

-- detector: the bright runs of each row. Each worker loads the model once, which takes long.
local model
local detector = fz.stage{name = "detector", workers = 4, init = function()
  takes(0.05)
  model = "()(#+)()"
end}

function detector.boxes(picture)
  takes(0.020)
  local boxes = {}
  for y, row in ipairs(picture) do
    for from, run, to in row:gmatch(model) do
      boxes[#boxes + 1] = {y = y, from = from, to = to - 1, width = #run}
    end
  end
  return boxes
end

-- describe: its two functions work on the same boxes at the same time.
local describe = fz.stage{name = "describe", workers = 4}

function describe.size(boxes)
  takes(0.005)
  local sum = 0
  for _, box in ipairs(boxes) do sum = sum + box.width end
  return sum
end

function describe.class(boxes)
  takes(0.010)
  local classes = {narrow = 0, wide = 0}
  for _, box in ipairs(boxes) do
    local class = box.width < 3 and "narrow" or "wide"
    classes[class] = classes[class] + 1
  end
  return classes
end

-- report: joins the results for a frame.
local report = fz.stage{name = "report", workers = 1, pass_input = false}

function report.line(number, size, class)
  takes(0.001)
  return ("frame %2d: %3d cells, %2d narrow, %2d wide"):format(number, size, class.narrow,
    class.wide)
end

local chain <close> = detector >> describe >> report

-- The frames as a camera gives them: one for each call.
local function camera()
  local n = 0
  return function()
    n = n + 1
    return n <= FRAMES and {number = n, picture = frame(n)} or nil
  end
end

local function sequential()
  local lines = {}
  for item in camera() do lines[#lines + 1] = chain(item).line end
  return lines
end

local function streamed()
  local lines = {}
  for i, out in chain:stream(camera(), {inflight = 16}) do lines[i] = out.line end
  return lines
end

local function timed(name, f)
  local start = fz.now()
  local lines = f()
  if RATE then print(("%s: %.1f frames a second"):format(name, FRAMES / (fz.now() - start))) end
  return lines
end

chain:invoke {number = 1, picture = frame(1)} -- starts the first workers before the measurement
local one_by_one = timed("sequential", sequential)
local as_stream = timed("streamed", streamed)

for i, line in ipairs(as_stream) do
  if not RATE then print(line) end
  assert(line == one_by_one[i])
end
print(#as_stream .. " frames, in order, the same both ways")
