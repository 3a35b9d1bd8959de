--- log.lua - a line in the log, which is standard error or a host's function, for a problem that
--- no call can report.

local core = require "fzlua.core"

local log = {}

local function stamp()
  local seconds = core.wall()
  local whole = math.floor(seconds)
  return ("%s.%03d"):format(os.date("%H:%M:%S", whole), math.floor((seconds - whole) * 1000))
end

local function write(level, fmt, ...)
  core.log(("%s %s fzlua[%d]: %s\n"):format(stamp(), level, core.pid(), fmt:format(...)))
end

---Log an error; the text may have several lines.
---@param fmt string
function log.error(fmt, ...)
  write("ERROR", fmt, ...)
end

---Log something that may be a mistake.
---@param fmt string
function log.warn(fmt, ...)
  write("WARN", fmt, ...)
end

return log
