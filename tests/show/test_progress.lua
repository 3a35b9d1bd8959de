-- progress = true, fz.progress and --progress without a terminal.

local t = ...
local SLOW_MAP <const> = dofile "tests/support/slow_map.lua"

local tests = {}

tests["a file gets plain lines, and only at the end of short work"] = function()
  local from = fz.now()
  local out, err, status = t.command(t.file(SLOW_MAP))
  if fz.now() - from > 1.5 then -- on a busy machine the work is not short
    err = err:gsub("fz.map: [^\n]* left\n", "")
  end
  t.equal(status, 0)
  t.equal({ out:gsub("line\t%d0\n", "") }, { "", 4 })
  t.equal(err:gsub("[%d.]+/s, [%d.]+ s", "RATE"), "fz.map: done, 40/40, RATE\n")
end

tests["long work writes a line every few seconds to a file"] = function()
  local _, err, status = t.command(t.file [[
    for _ in fz.progress({1, 2, 3}, {label = "slow"}) do fz.exec{"sleep", "2.2"} end
  ]])
  t.equal(status, 0)
  local first, second, more = err:match "^(slow: [12]/3, [^\n]*)\n(slow: done, 3/3, [^\n]*)\n(.*)$"
  assert(first and more == "", err)
  t.match(first, "%", "/min", "left")
  t.match(second, "/min")
end

tests["progress = false overrides --progress"] = function()
  local script = t.file "fz.map(math.abs, {1}, {progress = false}) fz.map(math.abs, {1, 2})"
  local _, err = t.command("--progress", script)
  t.match(err, "fz.map: done, 2/2")
  assert(not err:find("1/1", 1, true), err)
end

tests["a failed chain says which stage failed"] = function()
  local _, err, status = t.command("--progress", t.file [[
    local first, second = fz.stage "first", fz.stage "second"
    first:register("A", "x", function() error "broken" end)
    second:register("B", "A", function(a) return a end)
    return first >> second
  ]], "x=1")
  t.equal(status, 1)
  t.match(err, "first: failed, 1/1, ", "1 failed", "second: cancelled, 0/1, ", "broken")
end

tests["dags, pools and imaps have lines"] = function()
  local _, err, status = t.command("--progress", t.file [[
    local g = fz.dag{name = "graph"}
    g:add("b", "a", function(a) return a end)
    g:invoke{a = 1}
    local h = fz.dag()
    h:add("b", "a", function(a) return a end)
    h:invoke{a = 1}
    local pool <close> = fz.pool(2)
    pool:map(math.abs, {1, 2})
    pool:starmap(math.max, {{1, 2}, {3, 4}, {5, 6}})
    pool:map_async(math.abs, {1}):get()
    for _ in pool:imap(math.abs, {1, 2, 3, 4}) do end
    for _ in pool:imap_unordered(math.abs, string.gmatch("1 2 3 4 5", "%d")) do end
    for _ in pool:imap(math.abs, {1, 2, 3, 4, 5, 6}) do break end
    fz.starmap(math.max, {{1, 2}})
    fz.map(math.abs, {})
    print(pool:apply(function() return #fz.map(math.abs, {1, 2, 3}, {progress = true}) end))
  ]])
  t.equal(status, 0)
  t.equal(err:gsub(", [%d.k]+/%a+", ""):gsub(", %d.%d s", ""), [[
graph: done, 1/1
dag: done, 1/1
pool:map: done, 2/2
pool:starmap: done, 3/3
pool:map_async: done, 1/1
pool:imap: done, 4/4
pool:imap_unordered: done, 5
]] .. err:match "pool:imap: cancelled, %d/6, %d+%%" .. [[

fz.starmap: done, 1/1
fz.map: done, 0/0
]])
end

tests["a map of a pool that is terminated counts as cancelled"] = function()
  local _, err, status = t.command("-e", [[
    local pool = fz.pool(1)
    local entered = fz.event()
    local function wait(x) entered:set() while true do x = -x end end
    local result = pool:map_async(wait, {1, 2}, {progress = true})
    entered:wait()
    pool:terminate()
    assert(not pcall(result.get, result))
  ]])
  t.equal(status, 0)
  t.match(err, "pool:map_async: cancelled, 0/2, ")
end

tests["without workers there are lines, too"] = function()
  local _, err, status = t.command("-j0", "--progress", t.file [[
    fz.map(math.abs, {1, 2, 3})
    local stage = fz.stage "local"
    stage:register("A", "x", function(x) return x end)
    fz.chain{stage}:invoke{x = 1}
    for _ in fz.pool(2):imap(math.abs, {1, 2}) do end
  ]])
  t.equal(status, 0)
  t.match(err, "fz.map: done, 3/3, ", "local: done, 1/1, ", "pool:imap: done, 2/2, ")
end

tests["what runs in a worker shows nothing"] = function()
  local _, err, status = t.command("-e", [[
    fz.map(function()
      for _ in fz.progress{1, 2} do end
      return #fz.map(math.abs, {1, 2, 3}, {progress = true})
    end, {1, 2})
    fz.process(function() fz.map(math.abs, {1}, {progress = true}) end):start():join()
  ]])
  t.equal(status, 0)
  t.equal(err, "")
end

tests["an imap that raises has failed, whichever item it was"] = function()
  local _, err, status = t.command("--progress", "-e", [[
    local pool <close> = fz.pool(1)
    local function check(x) return x < 3 or error "three" end
    for _, list in ipairs{{1, 2, 3}, {3}} do
      assert(not pcall(function() for _ in pool:imap(check, list) do end end))
    end
    for _ in pool:imap(check, {1, 2, 3}, {on_error = "continue"}) do end
  ]])
  t.equal(status, 0)
  t.match(err, "pool:imap: failed, 3/3, ", "pool:imap: failed, 1/1, ", "pool:imap: done, 3/3, ")
end

tests["progress functions get the events of an imap"] = function()
  local pool <close> = fz.pool(2)
  local done, total, failed = {}, {}, 0
  local function note(d, n, event)
    if event.kind == "done" or event.kind == "failed" then
      done[#done + 1], total[#total + 1] = d, n or false
      if event.kind == "failed" then failed = failed + 1 end
    end
  end
  local options = { progress = note, on_error = "continue" }
  local items = { 1, "a", 3, coroutine.create(print) }
  for i, _, e in pool:imap(function(x) return x // 1 end, items, options) do
    assert((i % 2 == 0) == (e ~= nil))
  end
  t.equal(done, { 1, 2, 3, 4 })
  t.equal(total, { 4, 4, 4, 4 })
  t.equal(failed, 2)
end

tests["fz.progress passes on what the source yields"] = function()
  local defaults = require "fzlua.defaults"
  defaults.quiet = true
  local _ <close> = setmetatable({}, { __close = function() defaults.quiet = nil end })
  local got = {}
  for x in fz.progress { "a", "b" } do got[#got + 1] = x end
  for k, v in fz.progress(pairs { 10, 20 }) do got[#got + 1] = k + v end
  for a, b in fz.progress(string.gmatch("1=2 3=4", "(%d)=(%d)"), { total = 2 }) do
    got[#got + 1] = a .. b
  end
  local callable = setmetatable({}, { __call = function(_, _, c) return not c and 5 or nil end })
  for x in fz.progress(callable) do got[#got + 1] = x end
  t.equal(got, { "a", "b", 11, 22, "12", "34", 5 })
end

tests["leaving the loop closes the source"] = function()
  for _, leave in ipairs { "break", "error 'x'" } do
    local out, err, status = t.command("-e", ([[
      local closing = setmetatable({}, {__close = function() print "closed" end})
      pcall(function()
        for x in fz.progress(function(_, i) return i + 1 end, nil, 0, closing, {label = "x"}) do
          if x == 3 then %s end
        end
      end)
    ]]):format(leave))
    t.equal(out, "closed\n")
    t.equal(status, 0)
    t.match(err, leave == "break" and "x: cancelled, 2" or "x: failed, 2")
  end
end

tests["wrong arguments of fz.progress and progress raise at the caller"] = function()
  t.match(t.wrong(fz.progress), "table expected, got no value")
  t.match(t.wrong(fz.progress, 5), "table expected, got number")
  t.match(t.wrong(fz.progress, {}, { total = -1 }), "bad option 'total' to 'fz.progress'")
  t.match(t.wrong(fz.progress, {}, { label = 1 }), "bad option 'label'")
  t.match(t.wrong(fz.progress, {}, { colour = 1 }), "no such option")
  t.match(t.wrong(fz.map, math.abs, {}, { progress = 1 }),
    "bad option 'progress' to 'fz.map' (a boolean or a function expected, got 1)")
end

tests["an abandoned loop ends its bar"] = function()
  local _, err, status = t.command("-e", [[
    local step = fz.progress({1, 2, 3}, {label = "left"})
    step() step()
    step = nil
    collectgarbage()
  ]])
  t.equal(status, 0)
  t.equal(err:gsub("%d", "N"), "")
  _, err, status = t.command("-e", [[
    do
      local step = fz.progress({1, 2, 3}, {label = "left"})
      step() step()
    end
    collectgarbage() collectgarbage()
    for _ in fz.progress({1, 2}, {label = "next"}) do fz.exec{"sleep", "0.1"} end
  ]])
  t.equal(status, 0)
  t.match(err, "left: cancelled", "next: done, 2/2")
end

tests["a stream has a line for each stage, which counts items"] = function()
  local script = t.file [[
    local first, second = fz.stage "first", fz.stage "second"
    first:register("a", "x", function(x) return x end)
    first:register("b", "x", function(x) return x end)
    second:register("c", {"a", "b"}, function(a, b) return a + b end)
    local chain = first >> second
    local list = {}
    for i = 1, 50 do list[i] = {x = i} end
    local sum = 0
    for _, out in chain:stream(list) do sum = sum + out.c end
    for i in chain:stream(list, {inflight = 2}) do if i == 3 then break end end
    for _ in chain:stream(string.gmatch("1 2 3", "%d")) do end
    print(sum)
  ]]
  for _, jobs in ipairs { "-j2", "-j0" } do
    local out, err, status = t.command(jobs, "--progress", script)
    t.equal(status, 0)
    t.equal(out, "2550\n")
    local lines = {}
    for line in err:gmatch "[^\n]+" do lines[#lines + 1] = line end
    t.equal(#lines, 6)
    t.match(lines[1], "first: done, 50/50, ")
    t.match(lines[2], "second: done, 50/50, ")
    assert(lines[3]:find "^first: cancelled, %d/50, ", lines[3])
    assert(lines[4]:find "^second: cancelled, %d/50, ", lines[4])
    t.match(lines[5], "first: done, 3, ")
    t.match(lines[6], "second: done, 3, ")
  end
end

tests["the first value of pairs or ipairs alone is refused"] = function()
  local stage = fz.stage "s"
  local chain <close> = fz.chain { stage }
  local pool <close> = fz.pool(1)
  for _, following in ipairs { (pairs {}), (ipairs {}) } do
    t.match(t.wrong(fz.progress, following, {}), "#1 to 'fz.progress' (only the first value")
    t.match(t.wrong(pool.imap, pool, print, following, {}),
      "#2 to 'pool:imap' (only the first value")
    t.match(t.wrong(chain.stream, chain, following, {}), "#1 to 'stream' (only the first value")
  end
end

tests["lines that are shown together have labels that differ"] = function()
  local _, err = t.command("-e", [[
local pool = fz.pool(1)
local function nap(x) os.execute "sleep 0.01" return x end
local results = {}
for i = 1, 3 do results[i] = pool:map_async(nap, { 1 }, { progress = true }) end
for _ in fz.progress({ 1 }, { label = "pool:map_async (2)" }) do
  for i = 1, 3 do results[i]:get() end
end
pool:map(nap, { 1 }, { progress = true })]])
  t.match(err, "pool:map_async: done", "pool:map_async (2): done", "pool:map_async (3): done",
    "pool:map_async (2) (2): done", "pool:map: done")
end

return tests
