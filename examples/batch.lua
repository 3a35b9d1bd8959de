-- batch.lua: a batch of files of which some are broken, and a report of what failed and why.
--
--   fzlua examples/batch.lua               files that are made for this run
--   fzlua examples/batch.lua *.csv         yours: each line is a name, a comma and a number
--
-- Shows on_error = "continue": a file that fails does not stop the others, and result.errors has
-- its error. A timeout ends a call that hangs. Retries help against a cause that may go away;
-- `retry_if` chooses the errors for which there are further attempts.

local fz = require "fzlua"

-- An error with a field, so that it can be recognized. Its message comes from __tostring.
local Malformed = {__tostring = function(e) return ("line %d is malformed"):format(e.line) end}

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

-- The sum of the numbers of a file. Another program may hold a lock on the file: wait for its end.
local function sum_of(path)
  while exists(path .. ".lock") do fz.sleep(0.01) end
  local file <close> = assert(io.open(path))
  local sum, number = 0, 0
  for line in file:lines() do
    number = number + 1
    local value = tonumber(line:match "^%a+,(.*)$")
    if not value then error(setmetatable({line = number}, Malformed)) end
    sum = sum + value
  end
  return sum
end

-- Whether a second attempt may succeed. `cause` is the value that the function raised.
local function may_succeed(e)
  local is_malformed = type(e.cause) == "table" and e.cause.line
  return e.kind ~= "timeout" and not is_malformed
end

-- Read the files. Before another attempt on a file, check whether its download has ended.
local function read_all(paths)
  local attempts = {}
  local function follow(_, _, event)
    if event.kind ~= "retry" then return end
    attempts[event.index] = (attempts[event.index] or 1) + 1
    os.rename(paths[event.index] .. ".part", paths[event.index])
  end
  local sums = fz.map(sum_of, paths, {on_error = "continue", timeout = 2, retries = 2,
    backoff = 0.01, retry_if = may_succeed, progress = follow})
  return sums, attempts
end

local function print_report(paths, sums, attempts)
  local total, failed = 0, 0
  for i, path in ipairs(paths) do
    local e = sums.errors[i]
    total, failed = total + (sums[i] or 0), failed + (e and 1 or 0)
    local result = e and ("%s: %s"):format(e.kind, e.message:gsub("%S+/", "")) or sums[i]
    print(("%-14s %d  %s"):format(path:match "[^/]*$", attempts[i] or 1, result))
  end
  print(("%d files, %d failed, the sum of the others is %d"):format(#paths, failed, total))
end

local FILES <const> = { -- name and text of each file, and how it is broken
  {"april.csv", "north,10\nsouth,20\n"},
  {"may.csv", "north,12\nsouth,twenty\n"},
  {"june.csv", "\0\1\2\255"},
  {"july.csv"},                                 -- is not there
  {"august.csv.part", "north,18\nsouth,28\n"},  -- is still being downloaded
  {"september.csv", "north,20\nsouth,30\n"},
  {"october.csv.lock", ""},                     -- its lock was not removed
  {"november.csv", "north,24\nsouth,34\n"},
}

local function demonstrate()
  local folder = fz.exec({"mktemp", "-d"}, {check = true}).stdout:gsub("\n", "/")
  local _ <close> = setmetatable({}, {__close = function() fz.exec{"rm", "-r", folder} end})
  local paths = {}
  for i, given in ipairs(FILES) do
    local name, text = given[1], given[2]
    paths[i] = folder .. name:match "^%a+%.csv"
    if text then
      local file <close> = assert(io.open(folder .. name, "wb"))
      file:write(text)
    end
  end
  print_report(paths, read_all(paths))
end

if #arg > 0 then
  print_report(arg, read_all(arg))
else
  demonstrate()
end
