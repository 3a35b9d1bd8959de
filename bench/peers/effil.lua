-- The pool's rows by effil: lua5.3 effil.lua [ROW...]. It has no build for Lua 5.4.

local effil = require "effil"
local threads = dofile(arg[0]:match("^(.-)[^/]*$") .. "threads.lua")

local function work(jobs, results, f)
  while true do
    local x = jobs:pop()
    if not x then return end
    results:push(f(x))
  end
end

local function start(f)
  local jobs, results = effil.channel(), effil.channel()
  local pair = {effil.thread(work)(jobs, results, f), effil.thread(work)(jobs, results, f)}
  return {
    send = function(x) jobs:push(x) end,
    receive = function() return (results:pop()) end,
    stop = function()
      for _ = 1, #pair do jobs:push(false) end
      for _, thread in ipairs(pair) do thread:wait() end
    end,
  }
end

threads.run(start, arg)
