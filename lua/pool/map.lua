--- map.lua - fz.map and fz.starmap, which start workers for one map.
--
-- Forked workers inherit the function and the list, so only results are sent.

local Mapping = require "fzlua.mapping"
local check = require "fzlua.check"
local defaults = require "fzlua.defaults"
local core = require "fzlua.core"
local engine_url = require "fzlua.engine_url"
local lists = require "fzlua.lists"
local made = require "fzlua.made"

local map = {}

local function run(kind, what, f, list, options)
  check.type(f, "function", 1, what)
  check.type(list, "table", 2, what)
  options = check.options(options, check.FORK_MAP, 3, what)
  for name, value in pairs(defaults) do
    if options[name] == nil then options[name] = value end
  end
  options.given_seed = options.seed
  options.seed = options.seed or core.random_seed()
  options.on_error = options.on_error or "stop"
  options.inherited, options.call = true, what
  local jobs = options.jobs or engine_url.slots(options.engine)
  list = lists.readable(list)
  local n = lists.length(list)
  made.used = true
  local slots <close> = core.slots(jobs)
  local pool <close> = core.pool {
    funcs = {}, list = list, init = options.init, batches = true, once = true, slots = slots,
    workers = math.min(jobs, math.max(n, 1)), start = options.start,
    engine = options.engine,
  }
  return Mapping.start(pool, kind, f, list, options):wait()
end

-- Call `f` with each element of a list, in workers that are started for this call.
function map.map(f, list, options)
  return run("map", "fz.map", f, list, options)
end

function map.starmap(f, list, options)
  return run("starmap", "fz.starmap", f, list, options)
end

return map
