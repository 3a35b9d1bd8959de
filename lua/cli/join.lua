--- join.lua - fzlua --worker among options that a node does not have.
--
-- The command (src/cli/join.c) joins an engine before it reads other options. It leaves to this
-- module a command line on which another word comes before --worker.

local report = require "fzlua.report"

local join = {}

---Raise wrong use.
function join.run()
  report.misuse "--worker is used alone: fzlua --worker --engine URL [-j N] [--name NAME] ..."
end

return join
