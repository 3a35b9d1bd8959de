--- made.lua - notes whether the script has made stages, chains or dags, and used them.
--
-- The command reads this to find a script that forgets to return its chain.

---@class fzlua.Made
---@field stage boolean a stage was made
---@field pipeline boolean a chain or a dag was made
---@field used boolean a chain or a dag was run, drawn or printed, or may have been, because other
---processes run functions
local made = { stage = false, pipeline = false, used = false }

return made
