--- stage_lines.lua - the progress lines of an invoke or a stream.
---
--- A chain has one line for each stage that has functions, and a dag has one line. An invoke counts
--- functions, and the elements of the list of a map. A stream counts items.

local stage_lines = {}

---Show the lines if `options.progress` is true.
---@param owner fzlua.Pipeline
---@param plan fzlua.Plan
---@param runs userdata the run or the stream; it counts its nodes
---@param options table progress, on_error
---@param from? fzlua.Source of a stream, to count its items; nil: count functions
---@return fzlua.ProgressPanel|nil
function stage_lines.start(owner, plan, runs, options, from)
  if options.progress ~= true then return nil end
  local lines = {}
  for i, pool in ipairs(plan.pools) do
    lines[i] = { label = pool.stage or owner._options.name or "dag", total = #pool.funcs }
    if from then lines[i].total = from.n end
  end
  local function set_counts(shown, counted)
    for i, line in ipairs(shown) do
      local functions = #plan.pools[i].funcs
      local done, failed, busy, waiting, more, more_done, more_failed = counted:counts(i)
      if from then
        done = done // functions
      else -- count the elements of the list, which is known, instead of the map
        line.total, done, failed = functions + more, done + more_done, failed + more_failed
      end
      line.done, line.failed, line.busy, line.waiting = done, failed, busy, waiting
    end
  end
  return require "fzlua.progress".start(lines, runs, set_counts, options.on_error)
end

return stage_lines
