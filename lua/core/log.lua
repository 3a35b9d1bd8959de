--- log.lua - one whole line to standard error for what nobody else is told of.

local core = require "fzlua.core"

local log = {}

local function stamp()
  local seconds = core.wall()
  local whole = math.floor(seconds)
  return ("%s.%03d"):format(os.date("%H:%M:%S", whole), math.floor((seconds - whole) * 1000))
end

local function write(level, fmt, ...)
  io.stderr:write(("%s %s fzlua[%d]: %s\n"):format(stamp(), level, core.pid(), fmt:format(...)))
end

---Log an error; the text may have several lines.
---@param fmt string
function log.error(fmt, ...)
  write("ERROR", fmt, ...)
end

---Log what may be a mistake.
---@param fmt string
function log.warn(fmt, ...)
  write("WARN", fmt, ...)
end

return log
