--- failures.lua - how long the end of a stream takes after a failure, for stream.lua.

local fz = require "fzlua"

local ITEMS <const>, FAILED <const>, TIMEOUT <const> = 100, 50, 0.1

local at = fz.value("d", 0) -- time of the failure

-- Note the time, and fail: by an error, a kill or a timeout.
local function fail(how)
  at.value = fz.now() + (how == "timeout" and TIMEOUT or 0)
  if how == "error" then error "failed" end
  if how == "crash" then os.execute("kill -9 " .. fz.current_process().pid) end
  while true do end
end

-- A chain of three stages. The function of stage number `place` fails, or its init.
local function failing_chain(place, how, init)
  local stages = {}
  for i = 1, 3 do
    local stage = fz.stage {
      name = "stage" .. i, timeout = i == place and how == "timeout" and TIMEOUT or nil,
      init = i == place and init and function() fail(how) end or nil,
    }
    stage:register("x", function(x)
      if i == place and x == FAILED then fail(how) end
      return x
    end)
    stages[i] = stage
  end
  return fz.chain(stages)
end

-- The seconds from the failure until the loop has raised its error.
local function time_of(chain, kind, before, consume)
  local i, closed = 0, false
  local closing <const> = setmetatable({}, { __close = function() closed = true end })
  local function source()
    i = i + 1
    if before then before(i) end
    return i <= ITEMS and i or nil
  end
  local ok, e = pcall(function()
    for k in chain:stream(source, nil, nil, closing, { jobs = 3 }) do
      if consume then consume(k) end
    end
  end)
  local seconds = fz.now() - at.value
  assert(not ok and closed and (type(e) ~= "table" or e.kind == kind), tostring(e))
  return seconds
end

-- Failures in the script itself, in its source or its loop: an error, and a timeout.
local function fail_at(i)
  if i == FAILED then fail "error" end
end

local function hang_at(i)
  if i ~= FAILED then return end
  at.value = fz.now() + TIMEOUT
  fz.sleep(60)
end

local function time_of_hang(chain, before, consume)
  local ok, why = fz.with_timeout(TIMEOUT, time_of, chain, "timeout", before, consume)
  assert(ok == nil and why == "timeout")
  return fz.now() - at.value
end

---The longest time of all cases: a failure in each stage, the first and the last init, the source
---and the loop.
---@return number seconds
return function()
  local worst = 0
  for _, how in ipairs { "error", "crash", "timeout" } do
    for _, case in ipairs { { 1 }, { 2 }, { 3 }, { 1, true }, { 3, true } } do
      local chain <close> = failing_chain(case[1], how, case[2])
      worst = math.max(worst, time_of(chain, how))
    end
  end
  local chain <close> = failing_chain()
  return math.max(worst, time_of(chain, "error", fail_at), time_of(chain, "error", nil, fail_at),
    time_of_hang(chain, hang_at), time_of_hang(chain, nil, hang_at))
end
