--- engine.lua - where the workers of a chain, a map or a pool run.

local core = require "fzlua.core"

local engine = {}

---The number of functions that may run at once by default.
---@param url string|nil the option `engine`; nil and "local": workers run on this machine
---@return integer
function engine.slots(url)
  local nodes = url and core.nodes(url)
  if not nodes then return core.cpu_count() end
  local slots = 0
  for _, node in ipairs(nodes) do
    if not node.state or node.state == "ready" then slots = slots + node.slots end
  end
  return slots
end

return engine
