--- fold.lua - fz.fold, which starts workers for one fold.

local Pool = require "fzlua.pool"
local check = require "fzlua.check"

local fold = {}

function fold.fold(f, items, init, merge, options)
  local what = "fz.fold"
  check.type(f, "function", 1, what)
  options = check.options(options, check.FORK_FOLD, 5, what)
  local here = options.jobs == 0
  local workers = not here and options.jobs or nil
  local own = { workers = workers, start = options.start, engine = options.engine }
  local pool <close> = Pool.new(own, here)
  options.jobs, options.start, options.engine = nil, nil, nil
  return pool:_fold(what, f, items, init, merge, options, true)
end

return fold
