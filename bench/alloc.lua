--- alloc.lua - rows of programs that mostly allocate, without workers, for run.lua.

local limits = require "limits"

-- name, target, program: each takes some tenths of a second
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

---@param command string the command under test
---@param expect fun(what: string, got: any, wanted: any)
return function(command, expect)
  local function side(program, code)
    return function()
      local seconds, status = limits.spawn(program, "-e", code)
      expect("exit status of " .. program, status, 0)
      return seconds
    end
  end
  local rows = {}
  for i, program in ipairs(PROGRAMS) do
    local name, target, code = table.unpack(program)
    rows[i] = { name = name, unit = "ms", samples = 15, against = "lua5.4", target = target,
      measure = function() return side(command, code), side("lua5.4", code) end }
  end
  return rows
end
