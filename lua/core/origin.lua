--- origin.lua - the traceback of an error that was raised in a task and again in its waiter.
--
-- The message handler of the command makes the traceback in the waiter, so this traceback has only
-- the frames of the waiter. The frames of the task that raised the error are kept here, and come
-- first.

local origin = {}

-- The last error that was raised again, and its traceback. The table is weak, so that it keeps
-- neither of them alive.
local last = setmetatable({ error = nil, traceback = nil }, { __mode = "v" })

---Note that a waiter raises `e` next.
---@param e any
---@param traceback string|nil of the task that has raised it
function origin.note(e, traceback)
  last.error, last.traceback = e, traceback
end

---The whole traceback of an error.
---@param e any
---@param traceback string|nil of the coroutine that raises it now
---@return string|nil
function origin.extend(e, traceback)
  local before = last.traceback
  if not before or not rawequal(e, last.error) then return traceback end
  return before .. (traceback and traceback:match "\n.*" or "")
end

return origin
