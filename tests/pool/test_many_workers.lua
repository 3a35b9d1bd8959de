-- Many workers at once: none has descriptors of another, and so each notices the end of its pipe.

local fz = require "fzlua"

local tests = {}

-- With this many descriptors, a helper of the new worker closes them: src/os/fd_private.c.
local MANY <const> = 110

---A chain of n stages, each of which adds 1 to x. The last one calls f first.
local function chain_of(n, f)
  local chain
  for i = 1, n do
    local stage = fz.stage("s" .. i)
    stage:register("x", "x", function(x)
      if i == n then f() end
      return x + 1
    end)
    chain = chain and chain >> stage or fz.chain { stage }
  end
  return chain
end

-- How many descriptors this process has.
local function ndescriptors()
  local pipe <close> = assert(io.popen "ls /proc/$PPID/fd | wc -l")
  return pipe:read "n"
end

tests["the last of many workers has no descriptors of the others"] = function()
  local seen = fz.value("i", 0)
  local chain <close> = chain_of(MANY, function() seen.value = ndescriptors() end)
  local before = ndescriptors()
  assert(chain({ x = 0 }).x == MANY)
  assert(seen.value <= before + 10, ("%d descriptors, %d in the parent"):format(seen.value, before))
end

tests["each of many workers ends when the chain is closed, and no later"] = function()
  local chain = chain_of(MANY, function() end)
  assert(chain({ x = 0 }).x == MANY)
  local from = fz.now()
  chain:close()
  -- A worker that does not notice the end of its pipe is killed only after a second.
  assert(fz.now() - from < MANY / 2)
end

tests["the death of one of many is seen while others work"] = function()
  local chain <close> = chain_of(MANY, function() os.execute "kill -9 $PPID" end)
  local ok, err = pcall(chain, { x = 0 })
  assert(not ok and err.kind == "crash" and err.stage == "s" .. MANY, tostring(err))
end

return tests
