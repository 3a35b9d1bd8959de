--- fzlua.lua - the module that users get from `require "fzlua"`.
--
-- A module is loaded at the first use of one of its names, so that a script that uses none starts
-- as fast as Lua does. lua/meta describes the functions.

local core = require "fzlua.core"

require "fzlua.error"

local fz = {
  pack = core.pack,
  unpack = core.unpack,
  digest = core.digest,
  now = core.now,
  value = core.value,
  array = core.array,
  lock = core.lock,
  rlock = core.rlock,
  queue = core.queue,
  pipe = core.pipe,
  semaphore = core.semaphore,
  bounded_semaphore = core.bounded_semaphore,
  event = core.event,
  condition = core.condition,
  barrier = core.barrier,
}

-- name -> { module, field }; without a field the module itself
local LAZY = {
  stage = { "fzlua.stage", "new" },
  chain = { "fzlua.chain", "new" },
  dag = { "fzlua.dag", "new" },
  pool = { "fzlua.pool", "new" },
  map = { "fzlua.map", "map" },
  starmap = { "fzlua.map", "starmap" },
  fold = { "fzlua.fold", "fold" },
  file = { "fzlua.file", "new" },
  chunks = { "fzlua.chunks", "chunks" },
  process = { "fzlua.process", "new" },
  active_children = { "fzlua.process", "active_children" },
  current_process = { "fzlua.process", "current" },
  Error = { "fzlua.error" },
  manager = { "fzlua.manager", "new" },
  exec = { "fzlua.exec", "exec" },
  run_scripts = { "fzlua.exec", "run_scripts" },
  spawn = { "fzlua.task", "spawn" },
  await = { "fzlua.task", "await" },
  gather = { "fzlua.task", "gather" },
  group = { "fzlua.group", "run" },
  future = { "fzlua.task", "future" },
  with_timeout = { "fzlua.task", "with_timeout" },
  sleep = { "fzlua.task", "sleep" },
  as_completed = { "fzlua.task", "as_completed" },
  wait_fd = { "fzlua.descriptor", "wait" },
  log = { "fzlua.log" },
  progress = { "fzlua.progress_loop", "loop" },
}

-- Register these classes now, because a message may contain their objects before this process has
-- loaded the modules of the classes.
core.register_class("fzlua.Object", { __name = "fzlua.Object", __jsontype = "object" })
core.register_class("fzlua.File", {
  __fzunpack = function(path) return require "fzlua.file".new(path) end,
})
core.register_class("fzlua.Proxy", {
  __fzunpack = function(packed) return require "fzlua.proxy".unpack(packed) end,
})

function fz.register_class(name, mt)
  local check = require "fzlua.check"
  check.type(name, "string", 1, "fz.register_class")
  check.type(mt, "table", 2, "fz.register_class")
  core.register_class(name, mt)
  return mt
end

function fz.register_value(name, value)
  local check = require "fzlua.check"
  check.type(name, "string", 1, "fz.register_value")
  if type(value) ~= "table" and type(value) ~= "userdata" then
    check.fail("bad argument #2 to 'fz.register_value' (table or userdata expected, got %s)",
      type(value))
  end
  return core.register_value(name, value)
end

function fz.cpu_count(options)
  if options == nil then return core.cpu_count(false) end
  local check = require "fzlua.check"
  options = check.options(options, check.CPU_COUNT, 1, "fz.cpu_count")
  return core.cpu_count(options.physical or false)
end

return setmetatable(fz, {
  __index = function(self, name)
    local where = LAZY[name]
    if not where then return nil end
    local value = require(where[1])
    if where[2] then value = value[where[2]] end
    rawset(self, name, value)
    return value
  end,
})
