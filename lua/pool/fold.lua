--- fold.lua - fz.fold, which forks workers for one fold.

local Pool = require "fzlua.pool"
local check = require "fzlua.check"

local fold = {}

---Fold the items in workers that are forked for this call: `acc = f(acc, item)` from a copy of
---`init`, then `merge(a, b)` over the results of consecutive items, in their order. So the result
---is that of a loop if `init` changes nothing and the order of the merges does not matter. Workers
---inherit a list, so that its items are not sent.
---@param f fun(acc: any, item: any): any
---@param items table|function a list, or an iterator that returns one item a call
---@param init any
---@param merge fun(a: any, b: any): any called in this process
---@param options? table jobs, retries, backoff, memory, retry_if
---@return any
function fold.fold(f, items, init, merge, options)
  local what = "fz.fold"
  check.type(f, "function", 1, what)
  options = check.options(options, check.FORK_FOLD, 5, what)
  local here = options.jobs == 0
  local pool <close> = Pool.new({ workers = not here and options.jobs or nil }, here)
  options.jobs = nil
  return pool:_fold(what, f, items, init, merge, options, true)
end

return fold
