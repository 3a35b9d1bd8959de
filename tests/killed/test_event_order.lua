-- test_event_order.lua - events of calls whose workers are killed: one start for each attempt.

local t = ...

local tests = {}

local function often_killed(x)
  if math.random(20) == 1 then os.execute "kill -9 $PPID" end
  if x % 29 == 0 then error "no" end
  return x
end

local function options()
  local check_order, wrong = t.event_order(), {}
  return {
    jobs = 3, retries = 3, on_error = "continue",
    progress = function(_, _, event)
      local ok, e = pcall(check_order, event)
      if not ok then wrong[#wrong + 1] = e end
    end,
  }, wrong
end

tests["maps"] = function()
  local with, wrong = options()
  fz.map(often_killed, t.numbers(200), with)
  t.equal(wrong, {})
end

tests["imaps"] = function()
  local with, wrong = options()
  with.jobs = nil
  local pool <close> = fz.pool(3)
  for _ in pool:imap(often_killed, t.counter(200), with) do end
  t.equal(wrong, {})
end

tests["chains, and maps in them"] = function()
  local stage, more = fz.stage "stage", fz.stage "more"
  stage:map("x", "x", often_killed)
  for i = 1, 20 do more:register("y" .. i, "i", often_killed) end
  local chain <close> = stage >> more
  local with, wrong = options()
  chain:invoke({ x = t.numbers(100), i = 1 }, with)
  t.equal(wrong, {})
end

tests["streams"] = function()
  local stage, more = fz.stage "stage", fz.stage "more"
  stage:register("x", "x", often_killed)
  more:register("y", "x", often_killed)
  local chain <close> = stage >> more
  local with, wrong = options()
  for _ in chain:stream(t.counter(100), with) do end
  t.equal(wrong, {})
end

return tests
