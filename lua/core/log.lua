--- log.lua - fz.log: writes entries of the log, which go to standard error or to a function of the
--- host.
---
--- Each entry is written by one system call, so that entries of different processes are not mixed:
---
---   HH:MM:SS.mmm LEVEL name[pid]: text
---
--- Further lines of a text are indented. fzlua itself logs problems that no call can report.

local Error = require "fzlua.error"
local check = require "fzlua.check"
local core = require "fzlua.core"
local identity = require "fzlua.identity"

local log = {}

local RANKS = { debug = 1, info = 2, warn = 3, error = 4, off = 5 }
local DEFAULT = "info"

local level, rank -- nil until the first use of the log, which reads FZLUA_LOG

local function stamp()
  local seconds = core.wall()
  local whole = math.floor(seconds)
  return ("%s.%03d"):format(os.date("%H:%M:%S", whole), math.floor((seconds - whole) * 1000))
end

-- Like pcall, but the error of Ctrl-C is raised again.
local function try(f, ...)
  local ok, result = pcall(f, ...)
  if not ok and Error.is(result, "interrupted") then error(result, 0) end
  return ok, result
end

local function text_of(value)
  local ok, text = try(tostring, value)
  return ok and text or ("(a %s whose __tostring raises)"):format(type(value))
end

-- The text for a format that does not fit its values: the format, the values and the reason.
local function unformatted(why, ...)
  local parts = table.pack(...)
  for i = 1, parts.n do parts[i] = text_of(parts[i]) end
  return ("%s (%s)"):format(table.concat(parts, " "), (why:gsub("^.-bad argument", "bad argument")))
end

local function message(fmt, ...)
  if type(fmt) ~= "string" then fmt = text_of(fmt) end
  local ok, text = try(string.format, fmt, ...)
  return ok and text or unformatted(text_of(text), fmt, ...)
end

-- The name of this process in the log. For a worker, this is its number in its pool instead of its
-- pid, because the log shows the pid anyway.
local function name_of(own)
  return own.name:find "^Worker%-" and own.worker and "Worker-" .. own.worker or own.name
end

local function write(name, fmt, ...)
  local own = identity.get()
  local text = message(fmt, ...):gsub("\n+$", ""):gsub("\n", "\n    ")
  core.log(("%s %s %s[%d]: %s\n"):format(stamp(), name, name_of(own), own.pid, text))
end

local function set_level(name)
  level, rank = name, RANKS[name]
end

-- The log level in the environment, or the default level.
local function read_level()
  local name = os.getenv "FZLUA_LOG"
  set_level(RANKS[name] and name or DEFAULT)
  if name and not RANKS[name] then
    write("WARN", "FZLUA_LOG is %q, not debug, info, warn, error or off: the level is %s", name,
      DEFAULT)
  end
end

local function logger(name)
  local own, shown = RANKS[name], name:upper()
  return function(fmt, ...)
    if not rank then read_level() end
    if own >= rank then write(shown, fmt, ...) end
  end
end

log.debug = logger "debug"
log.info = logger "info"
log.warn = logger "warn"
log.error = logger "error"

return setmetatable(log, {
  __index = function(_, name)
    if name ~= "level" then return nil end
    if not level then read_level() end
    return level
  end,
  __newindex = function(_, name, value)
    if name ~= "level" then
      check.fail("fz.log has no field '%s' that can be set", tostring(name))
    end
    set_level(check.option("level", value, "fz.log"))
  end,
})
