-- test_stream_killed.lua - streams whose workers are killed at any moment.

local t = ...

local tests = {}

local function pass(x) return x end

-- The pids of the workers of this process.
local function workers()
  local pids = {}
  for pid in t.children():gmatch "(%d+) [^\n]*" do pids[#pids + 1] = pid end
  return pids
end

tests["kills at any moment: with retries each item comes once, in order"] = function()
  local stages = {}
  for i, name in ipairs { "a", "b", "c" } do
    stages[i] = fz.stage { name = name, workers = 2 }
    stages[i]:register("x", pass)
  end
  local chain <close> = fz.chain(stages)
  local items, every, kills, last = 100000, 100, 0, 0
  for i, out in chain:stream(t.numbers(items), { inflight = 100, retries = 2, jobs = 4 }) do
    t.equal({ i, out.x }, { last + 1, i })
    last = i
    if i % every == 0 then
      local pids = workers()
      os.execute(("kill -9 %s 2>/dev/null"):format(pids[math.random(#pids)]))
      kills = kills + 1
    end
  end
  t.equal({ last, kills }, { items, items // every })
end

tests["kill -9 of the command in a stream leaves nothing"] = function()
  local script = t.file [[
local stage = fz.stage { name = "s", workers = 3 }
stage:register("x", function(x) os.execute "setsid sleep 77 & sleep 78" return x end)
for i in fz.chain { stage }:stream(function() return 1 end, { jobs = 3 }) do print(i) end]]
  local mark = t.mark()
  t.shell(([[
unset MARK; MARK=%s "$FZLUA" %s >/dev/null 2>&1 </dev/null & pid=$!
sleep 0.3; kill -9 $pid; wait $pid]]):format(mark, script))
  t.equal(t.left_of(mark), "")
end

return tests
