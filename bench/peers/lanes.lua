-- The pool's rows by Lanes: lua5.4 lanes.lua [ROW...].

local lanes = require "lanes"
local threads = dofile(arg[0]:match("^(.-)[^/]*$") .. "threads.lua")

lanes = lanes.configure{with_timers = false} or lanes

local function work(linda, f)
  while true do
    local _, x = linda:receive("job")
    if not x then return end
    linda:send("result", f(x))
  end
end

local function start(f)
  local linda, lane = lanes.linda(), lanes.gen("base", work)
  local pair = {lane(linda, f), lane(linda, f)}
  return {
    send = function(x) linda:send("job", x) end,
    receive = function() return (select(2, linda:receive("result"))) end,
    stop = function()
      for _ = 1, #pair do linda:send("job", false) end
      for _, thread in ipairs(pair) do thread:join() end
    end,
  }
end

threads.run(start, arg)
