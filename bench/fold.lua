--- fold.lua - the rows of fz.fold and fz.chunks, for run.lua: counting a log of 200 MB.

local limits = require "limits"
local weblog = require "weblog"

local SIZE <const> = 200000000

---@param command string the command under test
---@param here string folder of this file
---@param scratch string folder for the logs
---@param expect fun(what: string, got: any, wanted: any)
return function(command, here, scratch, expect)
  local programs = here .. "log/"

  local function run(...)
    local seconds, status = limits.spawn(...)
    expect("exit status of " .. (...), status, 0)
    return seconds
  end

  -- Both sides of a row: fzlua with fold.lua, and `program` with `arguments(log, bytes)`.
  local function beside(program, arguments)
    return function()
      local path, bytes = weblog.path(SIZE, scratch)
      return function() return run(command, "-j2", programs .. "fold.lua", path, bytes) end,
        function() return run(program, arguments(path, bytes)) end
    end
  end

  -- The peak memory of folding, in bytes.
  local function peak(path)
    local pipe <close> = assert(io.popen(("'%s' -j2 '%smemory.lua' fold '%s'"):format(command,
      here, path)))
    return assert(pipe:read "n", "memory.lua failed")
  end

  local function memory()
    local path, half_path = weblog.path(SIZE, scratch), weblog.path(SIZE // 2, scratch)
    return function() return peak(path) end, function() return peak(half_path) end
  end

  return {
    { name = "fold_log", unit = "ms", samples = 3, against = "lua5.4", target = 1,
      needs = "lua5.4", measure = beside("lua5.4", function(path, bytes)
        return programs .. "serial.lua", path, bytes
      end) },
    { name = "fold_log_python", unit = "ms", samples = 3, against = "a pool of Python",
      needs = "python3", measure = beside("python3", function(path, bytes)
        return programs .. "pool.py", path, bytes
      end) },
    { name = "fold_log_awk", unit = "ms", samples = 3, against = "awk", needs = "awk",
      measure = beside("awk", function(path, bytes)
        return "-v", "bytes=" .. bytes, "-f", programs .. "serial.awk", path
      end) },
    { name = "fold_log_memory", unit = "MiB", samples = 3, against = "a log of 100 MB",
      target = 1.2, measure = memory },
  }
end
