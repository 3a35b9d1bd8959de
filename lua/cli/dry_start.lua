--- dry_start.lua - lets a script run up to the first call that would start a worker.
--
-- This module is for --check. It replaces the functions of the core that start processes, or that
-- call functions in this process for -j0. The replacement keeps the arguments of the call and
-- raises. A wait without a timeout is refused, too, because nothing runs that could end the wait.

local core = require "fzlua.core"
local scheduler = require "fzlua.scheduler"

local dry_start = {}

---@class fzlua.DryStart
---@field source string|nil the chunk of the call, as debug.getinfo() returns it
---@field line integer|nil
---@field pipeline fzlua.Pipeline|nil that was to be run
---@field values table|nil its inputs
---@field what string the verb: what the call does
---@field functions function[] that were to be called
---@field sent table arguments that were to be sent; n is their number

---The first call that was refused, or nil.
---@type fzlua.DryStart|nil
dry_start.first = nil

-- The position where the running task was started. Used if the task has no frames of the user, as
-- in fz.spawn(fz.exec, ...).
local function place_of_task()
  local task = scheduler.current()
  if task then return task._source, task._line end
end

---The position of the nearest caller outside of fzlua.
---@return string|nil source, integer|nil line
function dry_start.place()
  for level = 2, math.huge do
    local info = debug.getinfo(level, "Sl")
    if not info then return place_of_task() end
    if info.what ~= "C" and info.source:sub(1, 7) ~= "@fzlua/" then
      return info.source, info.currentline
    end
  end
end

-- The error that refused calls raise.
local Refused = { __tostring = function() return "--check starts no worker" end }

---Whether `e` was raised by a call that was refused.
---@param e any
---@return boolean
function dry_start.is(e)
  return getmetatable(e) == Refused
end

-- Keep the call if it is the first refused call, and raise.
local function refuse(call)
  call.what = call.what or "starts workers or programs"
  call.source, call.line = dry_start.place()
  call.functions, call.sent = call.functions or {}, call.sent or { n = 0 }
  dry_start.first = dry_start.first or call
  error(setmetatable({}, Refused), 0)
end

local function functions_of(...)
  local list = {}
  for _, value in pairs { ... } do
    if type(value) == "function" then list[#list + 1] = value end
  end
  return list
end

local REFUSE = {
  apply = function(_, f, _, ...) refuse { functions = { f }, sent = table.pack(...) } end,
  batch = function(_, f, list, options)
    refuse { functions = { f }, sent = options.inherited and { n = 0 } or table.pack(list) }
  end,
  imap = function(_, f) refuse { functions = { f } } end,
  process = function(...) refuse { functions = functions_of(...) } end,
  exec = function() refuse {} end,
}
REFUSE.call = REFUSE.apply

-- Replace the method fill() of pools, so that it starts no worker.
local function refuse_filling()
  local pool = core.pool { funcs = {}, batches = true, workers = 1, slots = core.slots(1) }
  debug.getmetatable(pool).__index.fill = function() refuse {} end
  pool:close()
end

-- Note in each new task where the task was started.
local function note_starts()
  local start = scheduler.start
  function scheduler.start(task, ...)
    task._source, task._line = dry_start.place()
    return start(task, ...)
  end
end

local function refuse_waiting()
  local turn = core.turn
  function core.turn(timeout, ...)
    if not timeout then refuse { what = "waits" } end
    return turn(timeout, ...)
  end
end

---From now on, refuse all calls that start workers.
function dry_start.begin()
  for name, f in pairs(REFUSE) do core[name] = f end
  note_starts()
  refuse_waiting()
  refuse_filling()
  for _, name in ipairs { "fzlua.call_cache", "fzlua.item_cache" } do
    require(name).new = function() return nil end -- so that no file of recorded results is opened
  end
  require "fzlua.invocation".start = function(pipeline, _, _, values)
    refuse { pipeline = pipeline, values = values }
  end
  require "fzlua.stream".new = function(pipeline) refuse { pipeline = pipeline } end
  -- luacheck: push ignore 122
  os.exit = function() refuse { what = "exits" } end
  os.execute = function(command)
    if command ~= nil then refuse {} end
    return true -- os.execute() without a command: there is a shell
  end
  io.popen = function() refuse {} end
  -- luacheck: pop
end

return dry_start
