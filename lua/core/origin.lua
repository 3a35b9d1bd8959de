--- origin.lua - the traceback of an error that was raised in a task and again in its waiter.
--
-- The message handler of the command runs in the waiter, so its traceback has only the frames of
-- the waiter. This module keeps the frames of the task that raised the error, and puts them first.

local origin = {}

-- The last error that a waiter raised again, and its traceback. The table is weak, so that it does
-- not keep them alive.
local last = setmetatable({ error = nil, traceback = nil }, { __mode = "v" })

---Called before a waiter raises the error `e` of a task again.
---@param e any
---@param traceback string|nil of the task that has raised it
function origin.note(e, traceback)
  last.error, last.traceback = e, traceback
end

---The whole traceback of an error.
---@param e any
---@param traceback string|nil of the coroutine that raises the error now
---@return string|nil
function origin.extend(e, traceback)
  local before = last.traceback
  if not before or not rawequal(e, last.error) then return traceback end
  return before .. (traceback and traceback:match "\n.*" or "")
end

return origin
