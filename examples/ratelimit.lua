-- ratelimit.lua: twelve downloads from a server that allows three at a time.
--
--   fzlua examples/ratelimit.lua
--
-- Shows fz.semaphore: all twelve processes start at once, and the semaphore lets three of them
-- work. Each download counts the running ones at its start, and notes the highest count.

local fz = require "fzlua"

local DOWNLOADS <const>, AT_ONCE <const> = 12, 3

local slots = fz.semaphore(AT_ONCE)
local inside, most = fz.value("i", 0), fz.value("i", 0)

local function download(n)
  slots:acquire()
  local here = inside:add(1)
  most:with(function(v) v.value = math.max(v.value, here) end)
  local done = fz.now() + 0.005 -- stands for the time of the network
  while fz.now() < done do end
  inside:add(-1)
  slots:release()
  return ("page %d"):format(n)
end

local downloads = {}
for n = 1, DOWNLOADS do downloads[n] = fz.process(download, n):start() end
for n, p in ipairs(downloads) do downloads[n] = p:result() end

print(("%d downloads: %s to %s"):format(#downloads, downloads[1], downloads[#downloads]))
print(("never more than %d at once:"):format(AT_ONCE), most.value <= AT_ONCE)
print("inside at the end:", inside.value)
io.stderr:write(("at most %d were seen inside\n"):format(most.value))
