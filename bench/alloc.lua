--- alloc.lua - rows for run.lua: programs without workers, most of which allocate.

local limits = require "limits"

-- name, target, program that runs for some tenths of a second
local PROGRAMS <const> = {
  { "alloc_tables", 0.8, "local t = {} for i = 1, 1000000 do t[i] = {i} end" },
  { "alloc_records", 0.8,
    [[local t = {} for i = 1, 400000 do t[i] = {id = i, name = "n" .. i} end]] },
  { "alloc_trees", 0.8, [[local function tree(d)
      if d == 0 then return {} end
      return {tree(d - 1), tree(d - 1)}
    end
    local long = tree(14)
    for _ = 1, 200 do tree(10) end
    assert(long)]] },
  { "alloc_strings", 0.9,
    [[local n = 0 for i = 1, 1500000 do local s = "key" .. i n = n + #s end]] },
  { "alloc_closures", 0.8,
    "local f for i = 1, 2500000 do f = function() return i end end assert(f)" },
  { "alloc_coroutines", 0.9, [[for i = 1, 200000 do
      local c = coroutine.wrap(function(a) coroutine.yield(a) end)
      c(i) c()
    end]] },
  { "plain_loop", 1, "local s = 0 for i = 1, 30000000 do s = s + i % 7 end" },
}

-- name, target, argument of plain.lua
local PLAIN <const> = {
  { "plain_fib", 1.03, "fib" },
  { "plain_nbody", 1.03, "nbody" },
  { "plain_spectral", 1.03, "spectral" },
  { "plain_sort", 1.03, "sort" },
  { "plain_trees", 0.8, "trees" },
  { "plain_concat", 0.8, "concat" },
  { "plain_records", 0.8, "records" },
}

---@param command string the command under test
---@param expect fun(what: string, got: any, wanted: any)
return function(command, expect)
  local function side(program, ...)
    local arguments = table.pack(...)
    return function()
      local seconds, status = limits.spawn(program, table.unpack(arguments))
      expect("exit status of " .. program, status, 0)
      return seconds
    end
  end
  local rows = {}
  local function add(name, target, ...)
    local arguments = table.pack(...)
    rows[#rows + 1] = { name = name, unit = "ms", samples = 11, against = "lua5.4", target = target,
      measure = function()
        return side(command, table.unpack(arguments)), side("lua5.4", table.unpack(arguments))
      end }
  end
  for _, program in ipairs(PROGRAMS) do add(program[1], program[2], "-e", program[3]) end
  local script = package.searchpath("plain", package.path)
  for _, program in ipairs(PLAIN) do add(program[1], program[2], script, program[3]) end
  return rows
end
