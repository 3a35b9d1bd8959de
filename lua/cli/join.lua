--- join.lua - refuses fzlua --worker if another argument comes before --worker.
--
-- The command (src/cli/join.c) reads --worker only as the first argument, before it reads other
-- options. This module handles all other positions of --worker.

local messages = require "fzlua.messages"

local join = {}

function join.run()
  messages.misuse "--worker is used alone: fzlua --worker --engine URL [-j N] [--name NAME] ..."
end

return join
