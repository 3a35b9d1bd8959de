--- log.lua - one whole line to standard error for what nobody else is told of.

local core = require "fzlua.core"

local log = {}

local function stamp()
  local seconds = core.wall()
  local whole = math.floor(seconds)
  return ("%s.%03d"):format(os.date("%H:%M:%S", whole), math.floor((seconds - whole) * 1000))
end

---Tell of an error; the text may have several lines.
---@param fmt string
function log.error(fmt, ...)
  io.stderr:write(("%s ERROR fzlua[%d]: %s\n"):format(stamp(), core.pid(), fmt:format(...)))
end

return log
