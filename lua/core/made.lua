--- made.lua - what this process has made of stages, chains and dags, and whether it used them.
--
-- The command reads this to complain about a script that forgets to return its chain.

---@class fzlua.Made
---@field stage boolean a stage was made
---@field pipeline boolean a chain or a dag was made
---@field used boolean a chain or a dag was run, drawn or printed, or may be: by a function
---that other processes run
local made = { stage = false, pipeline = false, used = false }

return made
