-- pingpong.lua: two processes play with one ball, as fast as they can.
--
--   fzlua examples/pingpong.lua
--
-- Shows fz.pipe: a connection with two ends, each of which sends and receives. The ball is a table
-- that counts its hits. The time of a hit is written to standard error.

local fz = require "fzlua"

local RALLY <const> = 1000

local here, there = fz.pipe()

-- Hit the ball back until the rally ends. Returns the number of hits.
local function play(side)
  local hits = 0
  while true do
    local ball = side:recv()
    if not ball then return hits end -- the other process has made the last hit and closed its end
    hits = hits + 1
    ball.hits = ball.hits + 1
    if ball.hits == RALLY then return hits end
    side:send(ball)
  end
end

local opponent = fz.process(function()
  here:close() -- inherited, but used by the other process only
  return play(there)
end):start()
there:close()

local started = fz.now()
here:send{hits = 0}
local hits = play(here)
here:close()
print(("ping hit the ball %d times, pong %d times"):format(hits, (opponent:result())))
io.stderr:write(("%.1f us from hit to hit\n"):format((fz.now() - started) / RALLY * 1e6))
