--- history.lua - a file with the inputs of this session and of earlier sessions.
--
-- Each line of the file is an input. In it, \n stands for a newline, and \\ for a backslash.
-- Several sessions may use the file at the same time: they read it and append to it under a lock.
-- It is not an error if the file cannot be read or written.

local core = require "fzlua.core"

local history = {}

local ENTRIES_MAX <const> = 1000 -- maximum number of inputs in the file after it was shortened
local SLACK <const> = 200 -- number of further inputs after which the file is shortened

local host -- C functions of the command

local function directory()
  local state, home = os.getenv "XDG_STATE_HOME" or "", os.getenv "HOME" or ""
  if state:sub(1, 1) == "/" then return state .. "/fzlua" end
  return home ~= "" and home .. "/.local/state/fzlua" or nil
end

local function path()
  local dir = directory()
  return dir and dir .. "/history"
end

local function encode(input)
  return (input:gsub("[\\\n]", { ["\\"] = "\\\\", ["\n"] = "\\n" }))
end

local function decode(line)
  return (line:gsub("\\(.)", { n = "\n", ["\\"] = "\\" }))
end

-- Call f under the lock of the file, or without the lock if it cannot be opened.
local function locked(f)
  local lock <close> = io.open(path() .. ".lock", "w")
  if lock then core.lock_file(lock) end
  return f()
end

local function read()
  local file <close> = io.open(path(), "rb")
  local lines = {}
  for line in file and file:lines() or next, {} do lines[#lines + 1] = line end
  return lines
end

-- Write the last lines to a new file, which replaces the old file.
local function shorten(lines)
  if #lines <= ENTRIES_MAX + SLACK then return end
  local new = path() .. ".new"
  local file = io.open(new, "wb")
  if not file then return end
  local ok = file:write(table.concat(lines, "\n", #lines - ENTRIES_MAX + 1), "\n")
  if file:close() and ok then os.rename(new, path()) else os.remove(new) end
end

---The inputs of earlier sessions, oldest first.
---@param functions table of cli/main.c
---@return string[]
function history.load(functions)
  host = functions
  if not path() then return {} end
  host.make_directory(directory())
  local lines = locked(function()
    local all = read()
    shorten(all)
    return all
  end)
  local inputs = {}
  for i = math.max(#lines - ENTRIES_MAX + 1, 1), #lines do
    inputs[#inputs + 1] = decode(lines[i])
  end
  return inputs
end

-- Whether the last line is incomplete, because a session was killed, or the disk was full.
local function ends_within_line(file)
  return file:seek("end", -1) and file:read(1) ~= "\n"
end

---Add an input.
---@param input string
function history.append(input)
  if not path() then return end
  locked(function()
    local file <close> = io.open(path(), "a+b")
    if file then file:write(ends_within_line(file) and "\n" or "", encode(input), "\n") end
  end)
end

return history
