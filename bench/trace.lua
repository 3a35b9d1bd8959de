--- trace.lua - rows for run.lua: processes with --trace or --report beside some without.

local limits = require "limits"

-- The arguments of trace_run.lua for each row.
local RUNS <const> = {
  { "dag", "dag", 81 },   -- the 10,000-node DAG, built, compiled and invoked once
  { "work", "work", 21 }, -- the same, and each node works for about 20 us
  { "map", "map", 15 },   -- a map of a million integers
}

---@param command string the command under test
---@param here string directory of this file
---@param folder string where the rows may write
---@param expect fun(what: string, got: any, wanted: any)
return function(command, here, folder, expect)
  local script, rows = here .. "trace_run.lua", {}
  local function side(...)
    local arguments = table.pack(...)
    return function()
      local seconds, status = limits.spawn(command, table.unpack(arguments))
      expect("exit status of " .. command, status, 0)
      return seconds
    end
  end
  -- Each sample makes a new file: to empty the old one would take time as well.
  local function measure(option, path, run)
    local with, without = side(option, path, script, run), side(script, run)
    return function()
      os.remove(path)
      return with()
    end, without
  end
  for _, run in ipairs(RUNS) do
    for option, file in pairs { ["--trace"] = "trace.jsonl", ["--report"] = "trace.html" } do
      rows[#rows + 1] = { name = option:sub(3) .. "_" .. run[1], unit = "ms", samples = run[3],
        against = "the same without " .. option, target = 1.02,
        measure = function() return measure(option, folder .. file, run[2]) end }
    end
  end
  table.sort(rows, function(a, b) return a.name < b.name end)
  return rows
end
