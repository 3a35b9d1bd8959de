-- test_arguments.lua - wrong arguments and exhausted limits, whose errors say what to do.

local t = ...
local tests = {}

-- Raise unless f's error is a text with this file's name and the other texts.
local function wrong(f, ...)
  t.match(t.wrong(f), "test_arguments.lua:", ...)
end

tests["times are numbers of seconds, and the error names the argument"] = function()
  wrong(function() fz.sleep "a" end, "bad argument #1 to 'fz.sleep' (number expected, got string)")
  wrong(function() fz.sleep() end, "#1 to 'fz.sleep' (number expected, got no value)")
  wrong(function() fz.sleep(-1) end, "#1 to 'fz.sleep' (seconds expected, got -1)")
  wrong(function() fz.sleep(0 / 0) end, "#1 to 'fz.sleep' (seconds expected")
  local future = fz.future()
  wrong(function() fz.await(future, "a") end, "#2 to 'fz.await' (number expected, got string)")
  wrong(function() fz.await({ future }, {}) end, "#2 to 'fz.await' (number expected, got table)")
  wrong(function() future:await(false) end, "#1 to 'future:await' (number expected")
  wrong(function() fz.with_timeout("a", print) end, "#1 to 'fz.with_timeout' (number expected")
  local p = fz.process(print)
  wrong(function() p:join "a" end, "#1 to 'process:join' (number expected")
  wrong(function() p:result "a" end, "#1 to 'process:result' (number expected")
end

tests["a method that is called with a dot says so"] = function()
  local g, s, pool <close> = fz.dag(), fz.stage "s", fz.pool(1)
  local chain, future = fz.chain { s }, fz.future()
  for what, f in pairs {
    ["'invoke' (a chain or dag expected"] = function() chain.invoke {} end,
    ["'invoke_async' (a chain or dag"] = function() g.invoke_async() end,
    ["'stream' (a chain or dag expected"] = function() chain.stream { 1 } end,
    ["'close' (a chain or dag expected"] = function() chain.close() end,
    ["'reset' (a chain or dag expected"] = function() g.reset() end,
    ["'prune' (a chain or dag expected"] = function() g.prune() end,
    ["'add' (a dag expected"] = function() g.add("a", print) end,
    ["'register' (a stage expected"] = function() s.register("a", print) end,
    ["'pool:map' (a pool expected"] = function() pool.map(print, {}) end,
    ["'pool:close' (a pool expected"] = function() pool.close() end,
    ["'pool:join' (a pool expected"] = function() pool.join() end,
    ["'pool:terminate' (a pool expected"] = function() pool.terminate() end,
    ["'future:await' (a future expected"] = function() future.await() end,
    ["'future:set_result' (a future expected"] = function() future.set_result(1) end,
    ["'future:set_error' (a future expected"] = function() future.set_error() end,
    ["'future:cancel' (a future expected"] = function() future.cancel() end,
  } do
    wrong(f, "bad argument #1 to " .. what, "colon")
  end
end

tests["what is called under a lock is a function"] = function()
  local lock, condition = fz.lock(), fz.condition()
  local value, array = fz.value("i", 1), fz.array("i", 2)
  for _, object in ipairs { lock, condition, value, array, fz.semaphore(1) } do
    wrong(function() object:with(5) end,
      "bad argument #1 to 'with' (function expected, got number)")
  end
  wrong(function() condition:wait_for(5) end,
    "bad argument #1 to 'wait_for' (function expected, got number)")
end

tests["objects of a manager name the user's line"] = function()
  local m <close> = fz.manager()
  wrong(function() m:queue "x" end,
    "bad argument #1 to 'manager:queue' (number expected, got string)")
  wrong(function() m:queue(-1) end, "#1 to 'manager:queue' (must not be negative)")
  wrong(function() m:value "x" end, "#1 to 'manager:value' (unknown type code 'x'")
  wrong(function() m:value("i", "x") end, "number expected")
  t.equal({ m:queue(3):full(), m:value("i", 7).value, m:value("d").value }, { false, 7, 0.0 })
end

tests["too many open files: the error says which limit to raise"] = function()
  local out = t.shell(([[ulimit -n 24; %s -e '
    local ends = {}
    print(pcall(function()
      for i = 1, 40 do ends[i] = fz.process(fz.sleep, 60):start() end
    end))
    for _, p in ipairs(ends) do p:kill() end' 2>&1]]):format(t.fzlua))
  t.match(out, "Too many open files (raise the limit with ulimit -n, or use fewer workers)")
end

return tests
