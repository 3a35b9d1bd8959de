--- identity.lua - the name of this process.

local core = require "fzlua.core"

local identity = {}

local current -- name, pid and worker number; stale in a forked process, which has another pid

---Name this process.
---@param name string
function identity.set(name)
  current = { name = name, pid = core.pid(), worker = core.worker_number() }
end

function identity.get()
  local pid, main = core.pid()
  if not current or current.pid ~= pid then
    identity.set(pid == main and "MainProcess" or ("Worker-%d"):format(pid))
  end
  return current
end

return identity
