-- Workers that were stopped: their calls exceed the timeout, and all other calls continue.

local t = ...
local tests = {}

-- Stop the workers of an idle pool. Returns when all of them are stopped.
local function stop(pids)
  for _, pid in ipairs(pids) do
    os.execute("kill -STOP " .. pid)
    t.until_true(function()
      local status = assert(io.open(("/proc/%d/stat"):format(pid))):read "a"
      return status:match "%) (%a)" == "T"
    end)
  end
end

local function warm(workers)
  local pool = fz.pool(workers)
  pool:map(function(x) return x end, t.numbers(workers))
  return pool, pool.workers
end

tests["a call fails with a timeout where its only worker was stopped"] = function()
  local pool <close>, pids = warm(1)
  stop(pids)
  local result = pool:apply_async(function() return 1 end, {}, { timeout = 0.1 })
  local e = t.fails("timeout", result.get, result)
  t.match(e, "did not start within its timeout of 0.1 s")
  t.until_true(function() return not t.is_running(pids[1]) end)
  t.equal(pool:apply(function() return 2 end), 2)
end

tests["retries go to another worker, and a map has all its results"] = function()
  for _, n in ipairs { 3, 500 } do
    local pool <close>, pids = warm(3)
    stop { pids[1], pids[3] }
    local list = pool:map(function(x) return -x end, t.numbers(n), { timeout = 1, retries = 3 })
    for i = 1, n do t.equal(list[i], -i) end
  end
end

tests["a chain goes on with new workers"] = function()
  local s = fz.stage { name = "s", workers = 1 }
  s:register("A", "x", function() return require "fzlua.core".pid() end)
  s:register("B", "x", function(x) return x + 1 end)
  local chain <close> = fz.chain { s }
  stop { chain { x = 1 }.A }
  local out = chain({ x = 2 }, { timeout = 1, retries = 2 })
  t.equal(out.B, 3)
  stop { out.A }
  chain:invoke({ x = 3 }, { timeout = 1, on_error = "continue" })
  local failed = chain.errors.A or chain.errors.B -- one call had the stopped worker, the other not
  t.equal({ failed.kind, failed.stage }, { "timeout", "s" })
  t.equal(chain.errors.A and chain.errors.B, nil)
end

return tests
