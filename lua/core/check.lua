--- check.lua - checks arguments and options, and reports mistakes at the user's line.
--
-- All functions raise a plain string, as the Lua library does for a wrong argument. A mistake that
-- is found only when a chain runs is reported by other modules. A call in a wrong state raises an
-- fz.Error instead (see Error.raise).

local core = require "fzlua.core"
local nearest = require "fzlua.nearest"

local check = {}

-- Maximum numbers that the engine accepts: workers of a pool, jobs of a run, retries of a job.
check.WORKERS_MAX = 65536
local JOBS_MAX, RETRIES_MAX = 65536, 0x7fffffff

-- The position of the nearest caller that is Lua code outside of fzlua.
local function where()
  local level = 3
  while true do
    local info = debug.getinfo(level, "Sl")
    if not info then return "" end
    if info.what ~= "C" and info.source:sub(1, 7) ~= "@fzlua/" then
      return info.currentline > 0 and ("%s:%d: "):format(info.short_src, info.currentline) or ""
    end
    level = level + 1
  end
end

---The position of the user's line: "FILE:LINE: ", or "" if it is not known.
---@return string
function check.where() return (where()) end

---Whether the user's line was typed at the prompt.
---@return boolean
function check.at_prompt() return where():find "^stdin:%d" ~= nil end

---Raise a formatted text with the position of the user's line.
---@param fmt string
function check.fail(fmt, ...)
  error(where() .. fmt:format(...), 0)
end

---The name of a value's class, or of its type if it has no class name.
---@param value any
---@return string
function check.typename(value)
  local mt = getmetatable(value)
  local name = type(mt) == "table" and rawget(mt, "__name")
  return type(name) == "string" and name or type(value)
end

---Raise unless `value` has the type `expected`.
---@param value any
---@param expected string
---@param arg integer number of the argument
---@param what string the call, as the user writes it
function check.type(value, expected, arg, what)
  if type(value) == expected then return value end
  check.fail("bad argument #%d to '%s' (%s expected, got %s)", arg, what, expected,
    value == nil and "no value" or check.typename(value))
end

local ipairs_iterator <const> = ipairs {}

---Raise if the caller passed only the iterator of pairs() or ipairs(), without its table.
---@param f any
---@param state any
---@param arg integer number of the argument
---@param what string the call, as the user writes it
function check.iterator(f, state, arg, what)
  if state ~= nil or f ~= next and f ~= ipairs_iterator then return end
  check.fail("bad argument #%d to '%s' (only the first value of pairs or ipairs was passed: if "
    .. "further arguments follow, pass all three values and a nil before them)", arg, what)
end

---Raise because a method was called with a dot instead of a colon, without its object.
---@param noun string what was expected
---@param what string the call, as the user writes it
function check.no_self(noun, what)
  check.fail("bad argument #1 to '%s' (a %s expected: call it with a colon)", what, noun)
end

---Raise unless `value` is a number of seconds that is not negative.
---@param value any
---@param arg integer number of the argument
---@param what string the call, as the user writes it
---@return number value
function check.seconds(value, arg, what)
  check.type(value, "number", arg, what)
  if value ~= value or value < 0 then
    check.fail("bad argument #%d to '%s' (seconds expected, got %s)", arg, what, value)
  end
  return value
end

local function complain(what, name, expected, value)
  local text = type(value) == "string" and ("%q"):format(value) or tostring(value)
  check.fail("bad option '%s' to '%s' (%s expected, got %s)", name, what, expected, text)
end

-- A check for integers from `least` to `most`, or for any integer if these are nil.
local function whole(least, most)
  local expected = least and ("an integer from %d to %d"):format(least, most) or "an integer"
  return function(value, name, what)
    local n = math.type(value) and math.tointeger(value)
    if not n or least and (n < least or n > most) then complain(what, name, expected, value) end
    return n
  end
end

local function duration(value, name, what)
  if not math.type(value) or value ~= value or value < 0 then
    complain(what, name, "seconds", value)
  end
  return value
end

local UNITS = { [""] = 1, K = 2 ^ 10, M = 2 ^ 20, G = 2 ^ 30, T = 2 ^ 40 }

local function memory(value, name, what)
  local n = math.type(value) and value
  if type(value) == "string" then
    local digits, unit = value:match "^%s*(%d+%.?%d*)%s*([KMGTkmgt]?)[iI]?[bB]?%s*$"
    n = digits and tonumber(digits) * UNITS[unit:upper()]
  end
  n = n and n == n and n >= 1 and math.tointeger(math.floor(n))
  if not n then complain(what, name, 'bytes or a text such as "512M"', value) end
  return n
end

local function one_of(...)
  local words, known = { ... }, {}
  for i, word in ipairs(words) do
    known[word] = true
    words[i] = ("%q"):format(word)
  end
  local expected = table.concat(words, " or ")
  return function(value, name, what)
    if not known[value] then complain(what, name, expected, value) end
    return value
  end
end

-- Check `progress`: true shows lines, a function receives events, and false does neither.
local function progress(value, name, what)
  if type(value) ~= "boolean" and type(value) ~= "function" then
    complain(what, name, "a boolean or a function", value)
  end
  return value
end

local function of_type(expected)
  return function(value, name, what)
    if type(value) ~= expected then complain(what, name, "a " .. expected, value) end
    return value
  end
end

-- A check for a value of one of the given types, or a table { file = NAME }.
local function standard_file(expected, ...)
  local types = {}
  for _, name in ipairs { ... } do types[name] = true end
  return function(value, name, what)
    if types[type(value)] then return value end
    local file = type(value) == "table" and getmetatable(value) == nil and value.file
    if type(file) ~= "string" or next(value, next(value)) ~= nil then
      complain(what, name, expected .. " or {file = NAME}", value)
    elseif file == "" or file:find("\0", 1, true) then
      complain(what, name .. ".file", "a name without NUL bytes", file)
    end
    return value
  end
end

-- Check a string. It may not contain a NUL byte, at which C code would end the string.
local function no_nul(value, name, what)
  if type(value) ~= "string" or value:find("\0", 1, true) then
    complain(what, name, "a string without NUL bytes", value)
  end
  return value
end

-- Check a list of names, which may not be empty. Returns a sorted list with each name once.
local function names_option(value, option, what)
  local list, seen = {}, {}
  if type(value) ~= "table" or #value == 0 then complain(what, option, "a list of names", value) end
  for _, name in ipairs(value) do
    if type(name) ~= "string" then complain(what, option, "names", name) end
    if not seen[name] then list[#list + 1] = name end
    seen[name] = true
  end
  table.sort(list)
  return list
end

-- Check the option `optional`: true, or a list of inputs, whose names the caller checks.
local function optional(value, option, what)
  if type(value) == "string" then return { value } end
  if type(value) == "boolean" then return value end
  if type(value) ~= "table" then complain(what, option, "true or a list of inputs", value) end
  for _, name in ipairs(value) do
    if type(name) ~= "string" then complain(what, option, "names of inputs", name) end
  end
  return table.move(value, 1, #value, 1, {})
end

local TRACES = { jsonl = true, json = true, tsv = true }

-- Check the option `trace`: a boolean, or the name of a file whose extension determines the format.
local function trace(value, option, what)
  if type(value) == "boolean" then return value end
  if type(value) ~= "string" or value:find("\0", 1, true) or not TRACES[value:match "%.(%l+)$"] then
    complain(what, option, "true or a name that ends in .jsonl, .json or .tsv", value)
  end
  return value
end

-- Check the option `resume`: a boolean, or the name of a file. The empty name means true.
local function resume(value, option, what)
  if type(value) == "boolean" then return value end
  if type(value) ~= "string" or value:find("\0", 1, true) then
    complain(what, option, "true or the name of a file", value)
  end
  return value == "" or value
end

-- Check the option `report`: the name of the file for the report of a run, or false.
local function report(value, option, what)
  if value == false then return nil end
  if type(value) ~= "string" or value:find("\0", 1, true) or not value:find "%.html?$" then
    complain(what, option, "a name that ends in .html", value)
  end
  return value
end

-- Convert { NAME = "text" or false } to a sorted list of "NAME=text" and "NAME".
local function environment(value, option, what)
  if type(value) ~= "table" then complain(what, option, "a table", value) end
  local list = {}
  for name, text in pairs(value) do
    if type(name) ~= "string" or name == "" or name:find "[=\0]" then
      complain(what, option, "names without '=' and NUL bytes", name)
    end
    local entry = text == false and name
      or name .. "=" .. no_nul(text, ("%s.%s"):format(option, name), what)
    list[#list + 1] = entry
  end
  table.sort(list)
  return list
end

local function engine(value, option, what)
  local ok, e = pcall(core.check_engine, no_nul(value, option, what))
  if not ok then check.fail("bad option '%s' to '%s' (%s)", option, what, tostring(e)) end
  return value
end

-- option -> function(value, option, call) -> the checked and converted value
local OPTIONS = {
  name = of_type "string",
  init = of_type "function",
  exit = of_type "function",
  idle = duration,
  size = memory,
  pass_input = of_type "boolean",
  physical = of_type "boolean",
  workers = whole(1, check.WORKERS_MAX),
  jobs = whole(0, JOBS_MAX),
  timeout = duration,
  deadline = duration,
  retries = whole(0, RETRIES_MAX),
  backoff = duration,
  memory = memory,
  retry_if = of_type "function",
  optional = optional,
  on_error = one_of("stop", "now", "continue"),
  keep = one_of("final", "all"),
  outputs = names_option,
  seed = whole(),
  start = one_of("fork", "spawn"),
  engine = engine,
  progress = progress,
  trace = trace,
  resume = resume,
  cache = of_type "boolean",
  version = of_type "string",
  report = report,
  label = of_type "string",
  total = whole(0, math.maxinteger),
  level = one_of("debug", "info", "warn", "error", "off"),
  callback = of_type "function",
  error_callback = of_type "function",
  max_tasks = whole(1, RETRIES_MAX),
  chunksize = whole(1, RETRIES_MAX),
  inflight = whole(1, RETRIES_MAX),
  ordered = of_type "boolean",
  stdin = standard_file("a string, an iterator of strings", "string", "function"),
  stdout = standard_file("a function", "function"),
  stderr = standard_file("a function", "function"),
  check = of_type "boolean",
  cwd = no_nul,
  env = environment,
}

-- Two sets of options: for one function, and for a whole call.
check.LIMITS = { "timeout", "retries", "backoff", "memory", "retry_if" }
check.RUN = { "jobs", "deadline", "on_error", "keep", "seed", "progress", "engine", "trace",
  "resume", "report" }

local function set_of(...)
  local set = {}
  for _, list in ipairs { ... } do
    for _, name in ipairs(list) do set[name] = true end
  end
  return set
end

local function with(set, ...)
  local all = set_of { ... }
  for name in pairs(set) do all[name] = true end
  return all
end

check.FUNCTION = set_of(check.LIMITS, { "optional", "cache", "version" })
check.INVOKE = set_of(check.LIMITS, check.RUN, { "outputs", "cache" })
check.STREAM = set_of(check.LIMITS,
  { "jobs", "deadline", "on_error", "seed", "progress", "inflight", "ordered",
    "outputs", "engine", "trace", "report", "resume", "cache" })
check.STAGE = set_of(check.LIMITS, check.RUN,
  { "name", "workers", "init", "start", "pass_input", "cache" })
check.CPU_COUNT = set_of { "physical" }
check.EXEC = set_of { "stdin", "stdout", "stderr", "cwd", "env", "timeout", "check" }
check.SCRIPTS = set_of { "jobs", "timeout" }
check.DAG = set_of(check.LIMITS, check.RUN, { "name", "workers", "init", "start", "cache" })

local CALL = set_of(check.LIMITS, { "seed", "cache", "version" })
local BATCH = set_of(check.LIMITS, { "on_error", "seed", "progress", "resume", "cache", "version" })
check.POOL = set_of(check.LIMITS, { "workers", "init", "exit", "idle", "max_tasks", "on_error",
  "seed", "start", "engine", "progress", "inflight", "resume", "cache" })
check.APPLY = with(CALL, "callback", "error_callback")
check.MAP = with(BATCH, "chunksize")
check.MAP_ASYNC = with(BATCH, "chunksize", "callback", "error_callback")
check.IMAP = with(BATCH, "chunksize", "inflight")
check.FOLD = set_of { "retries", "backoff", "memory", "retry_if", "progress" }
check.FORK_FOLD = with(check.FOLD, "jobs", "start", "engine")
check.CHUNKS = set_of { "size" }
check.PROGRESS = set_of { "label", "total" }
check.FORK_MAP = with(BATCH, "chunksize", "jobs", "init", "start", "engine")

-- Pools have the option `workers`; calls that make their own workers have `jobs`.
local OTHER_WORD <const> = { jobs = "workers", workers = "jobs" }

-- Raise because an option is not in the set of allowed options.
local function refuse_option(name, allowed, what)
  local names = {}
  for other in pairs(allowed) do names[#names + 1] = other end
  table.sort(names)
  local other = OTHER_WORD[name]
  local near = allowed[other] and other or nearest(name, names)
  check.fail("bad option '%s' to '%s' (no such option; %s)", name, what,
    near and ("the nearest is '%s'"):format(near) or "there are " .. table.concat(names, ", "))
end

---Check one option as check.options() does.
function check.option(name, value, what)
  return OPTIONS[name](value, name, what)
end

---Check a table of options; returns a copy with the checked and converted values.
---@param options table|nil
---@param allowed table<string, boolean> one of the sets above
---@param arg integer number of the argument
---@param what string the call, as the user writes it
---@return table
function check.options(options, allowed, arg, what)
  if options == nil then return {} end
  check.type(options, "table", arg, what)
  local checked, names = {}, {}
  for name in pairs(options) do
    names[#names + 1] = type(name) == "string" and name or ("[%s]"):format(tostring(name))
  end
  if names[2] then table.sort(names) end
  for _, name in ipairs(names) do
    if not allowed[name] then refuse_option(name, allowed, what) end
    checked[name] = OPTIONS[name](options[name], name, what)
  end
  return checked
end

---Convert a name or a list of names to a new list.
---@param names string|string[]
---@param arg integer
---@param what string
---@return string[]
function check.names(names, arg, what)
  if type(names) == "string" then return { names } end
  check.type(names, "table", arg, what)
  if getmetatable(names) ~= nil then check.type(names, "list of names", arg, what) end
  local list, n = {}, 0
  for i, name in ipairs(names) do
    if type(name) ~= "string" then
      check.fail("bad argument #%d to '%s' (name %d is a %s, not a string)", arg, what, i,
        check.typename(name))
    end
    list[i], n = name, i
  end
  for key in pairs(names) do
    if math.type(key) ~= "integer" or key < 1 or key > n then
      check.fail("bad argument #%d to '%s' (a list of names expected, got the key %s)", arg,
        what, tostring(key))
    end
  end
  return list
end

return check
