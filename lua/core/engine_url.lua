--- engine_url.lua - where the workers of a chain, a map or a pool run.

local core = require "fzlua.core"

local engine_url = {}

---The default for the number of functions that may run at once.
---@param url string|nil the option `engine`; nil or "local" for workers on this machine
---@return integer
function engine_url.slots(url)
  local nodes = url and core.nodes(url)
  if not nodes then return core.cpu_count() end
  local slots = 0
  for _, node in ipairs(nodes) do
    if not node.state or node.state == "ready" then slots = slots + node.slots end
  end
  return slots
end

return engine_url
