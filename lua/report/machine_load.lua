--- machine_load.lua - the processor time of all programs of this machine, from /proc/stat.

local machine_load = {}

-- The kernel counts in this unit, on all machines.
local TICK <const> = 0.01

-- Fields of a line: user, nice, system, idle, iowait, irq, softirq, steal. Time that the machine's
-- host gave to other machines (steal) is time of other programs.
local IDLE <const>, IOWAIT <const>, STEAL <const> = 4, 5, 8

---@class fzlua.MachineLoad
---@field busy number processor seconds since the machine has started
---@field processors integer

---Read the load of the machine; nil if the kernel does not say it.
---@param path string|nil of the file, for tests
---@return fzlua.MachineLoad|nil
function machine_load.read(path)
  local file <close> = io.open(path or "/proc/stat")
  if not file then return nil end
  local load = { busy = 0, processors = 0 }
  for line in file:lines() do
    local name, rest = line:match "^(cpu%d*)%s+(.*)"
    if not name then break end
    local i = 0
    for ticks in rest:gmatch "%d+" do
      i = i + 1
      if name == "cpu" and i <= STEAL and i ~= IDLE and i ~= IOWAIT then
        load.busy = load.busy + TICK * tonumber(ticks)
      end
    end
    if name ~= "cpu" then load.processors = load.processors + 1 end
  end
  return load.processors > 0 and load or nil
end

return machine_load
