--- cache_command.lua - fzlua --cache: shows and removes the results that runs have recorded.

local Error = require "fzlua.error"
local Store = require "fzlua.store"
local defaults = require "fzlua.defaults"
local literal = require "fzlua.literal"
local messages = require "fzlua.messages"

local cache_command = {}

local function size_text(n)
  for _, unit in ipairs { "B", "K", "M", "G" } do
    if n < 10000 or unit == "G" then return ("%.0f%s"):format(n, unit) end
    n = n / 1024
  end
end

local function time_text(seconds) return os.date("%Y-%m-%d %H:%M:%S", math.floor(seconds)) end

local function print_rows(rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, text in ipairs(row) do widths[i] = math.max(widths[i] or 0, utf8.len(text) or #text) end
  end
  for _, row in ipairs(rows) do
    local line = {}
    for i, text in ipairs(row) do
      line[i] = text .. (" "):rep(widths[i] - (utf8.len(text) or #text))
    end
    io.write((table.concat(line, "  "):gsub(" +$", "")), "\n")
  end
end

local function first_line(text) return (literal.safe(text):match "^[^\n]*") end

local function list(store)
  local rows = { { "calls", "size", "last recorded", "function", "" } }
  for _, row in ipairs(store:list()) do
    rows[#rows + 1] = {
      tostring(row[2]), size_text(row[3]), time_text(row[4]), literal.safe(row[1]),
      row[5] and "failed: " .. first_line(row[5]) or "",
    }
  end
  print_rows(rows)
  return messages.OK
end

local function print_call(row)
  local hex = row[1]:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
  io.write(("%s  %s  %s"):format(hex, time_text(row[3]), size_text(row[4])),
    row[5] and "  version " .. literal.safe(row[5]) or "", "\n")
  local i = 1
  for name in row[6]:gmatch "[^\n]+" do
    local digest = row[7]:sub(i, i + 15):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
    -- The digests of the items of a map are parts of the keys, and are not recorded.
    if digest ~= "" then io.write("  ", literal.safe(name), "  ", digest, "\n") end
    i = i + 16
  end
end

local function show(store, arguments)
  local name = arguments[1] or messages.misuse "--cache show needs the name of an output"
  local calls, failures = store:calls(name), store:failures(name)
  if #calls + #failures == 0 then
    messages.misuse("no result of %s is recorded in %s", name, store.path)
  end
  for _, row in ipairs(failures) do
    io.write(literal.safe(row[1]), " failed at ", time_text(row[3]), ": ")
    io.write(literal.safe(row[2]), "\n")
  end
  local last
  for _, row in ipairs(calls) do
    if row[2] ~= last then io.write(literal.safe(row[2]), "\n") end
    last = row[2]
    print_call(row)
  end
  return messages.OK
end

local function removed(n) io.write(("%d calls removed\n"):format(n)) return messages.OK end

local ACTIONS <const> = {
  ls = list,
  show = show,
  gc = function(store) return removed(store:collect(store.limit)) end,
  clear = function(store) return removed(store:clear()) end,
}

-- Refuse surplus arguments, because they would be ignored. They may be options after the arguments.
local function check_count(what, arguments)
  local surplus = arguments[what == "show" and 2 or 1]
  if not surplus then return end
  messages.misuse("--cache %s does not take the argument %s%s", what, surplus,
    surplus:sub(1, 1) == "-" and ": options come before it" or "")
end

---Do the action after --cache.
---@param options fzlua.CommandLine
---@param arguments string[]
---@return integer status
function cache_command.run(options, arguments)
  check_count(options.cache, arguments)
  local path = type(defaults.resume) == "string" and defaults.resume or Store.default_path()
  local ok, store = pcall(Store.open, path, true)
  if not ok then messages.fail(store) end
  local _ <close> = store
  local done, status = pcall(ACTIONS[options.cache], store, arguments)
  if done then return status end
  local of_database = Error.is(status) and status.code
  if of_database then messages.fail(("the cache %s: %s"):format(path, Store.advice(status))) end
  error(status, 0)
end

-- Raise unless each of the functions has failed in the last run that recorded it.
local function check_failed(path, names)
  path = type(path) == "string" and path or Store.default_path()
  local ok, store = pcall(Store.open, path, true)
  if not ok then messages.fail(store) end
  local _ <close> = store
  for name in names:gmatch "[^,]+" do
    if #store:failures(name) == 0 then
      messages.misuse("--debug-failed: no failure of %s is recorded in %s", name, path)
    end
  end
end

---Set the options so that functions without a recorded result run in this process. So a function
---that has failed fails again in this process, where the user can debug it.
---@param options fzlua.CommandLine
function cache_command.debug_failed(options)
  local run = options.run
  run.resume, run.jobs = run.resume or true, 0
  check_failed(run.resume, options.debug_failed)
end

return cache_command
