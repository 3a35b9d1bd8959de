-- test_stream_failures.lua - each kind of failure at each place of a stream. The stream is ordered
-- or not, and its loop is in the script, in a task or in a generator. The stream ends with the
-- error of the item or goes on, depending on on_error, and the source is closed.

local t = ...

local tests = {}

local ITEMS <const>, FAILED <const> = 6, 3

-- The way in which the function or the loop fails -> the kind of the error.
local KINDS <const> = { error = "error", kill = "crash", hang = "timeout" }

local function fail(how)
  if how == "error" then error { code = 17 } end
  if how == "kill" then os.execute("kill -9 " .. fz.current_process().pid) end
  while true do end
end

-- A chain of three stages that pass on x. The one called `place` fails at item FAILED, or in its
-- init if `init` is true.
local function failing_chain(place, how, init)
  local stages = {}
  for i, name in ipairs { "a", "b", "c" } do
    local fails = name == place
    local stage = fz.stage {
      name = name, timeout = fails and how == "hang" and 0.1 or nil,
      init = fails and init and function() fail(how) end or nil,
    }
    stage:register("x", function(x)
      if fails and not init and x == FAILED then fail(how) end
      return x
    end)
    stages[i] = stage
  end
  return fz.chain(stages)
end

-- A source of `n` items with a closing value. `before(i)` is called before item i is returned.
local function closing_source(n, before)
  local i, closed = 0, 0
  local closing = setmetatable({}, { __close = function() closed = closed + 1 end })
  local function following()
    i = i + 1
    if before then before(i) end
    return i <= n and i or nil
  end
  return { following = following, closing = closing, closed = function() return closed end }
end

-- Call consume(i, out, err) for each result of the stream.
local function loop(chain, source, options, consume)
  for i, out, err in chain:stream(source.following, nil, nil, source.closing, options) do
    consume(i, out, err)
  end
end

local ways = { script = loop }

function ways.task(...)
  return fz.await(fz.spawn(loop, ...))
end

-- The loop is in a coroutine that is resumed for each result.
function ways.generator(chain, source, options, consume)
  local co = coroutine.create(function() loop(chain, source, options, coroutine.yield) end)
  local _ <close> = setmetatable({}, { __close = function() coroutine.close(co) end })
  while true do
    local ok, i, out, err = coroutine.resume(co)
    if not ok then error(i, 0) end
    if coroutine.status(co) == "dead" then return end
    consume(i, out, err)
  end
end

function ways.generator_in_task(...)
  return fz.await(fz.spawn(ways.generator, ...))
end

-- Call f(run, options) for each way to loop, or for the ways in `names`. run(chain, source,
-- consume) returns the places of results, the errors by place, and the error that was raised. It
-- checks that the source was closed once.
local function each_way(on_error, f, names)
  for _, name in ipairs(names or { "script", "task", "generator", "generator_in_task" }) do
    local way = ways[name]
    for _, ordered in ipairs { true, false } do
      local options = { jobs = 2, on_error = on_error, ordered = ordered }
      local function run(chain, source, consume)
        local places, errors = {}, {}
        local ok, e = pcall(way, chain, source, options, function(i, out, err)
          if consume then consume(i) end
          if out then places[#places + 1] = i end
          errors[i] = err
        end)
        t.equal({ name, source.closed() }, { name, 1 })
        table.sort(places)
        return places, errors, not ok and e or nil
      end
      f(run, options)
    end
  end
end

-- 1, 2, ... ITEMS without FAILED.
local OTHERS <const> = { 1, 2, 4, 5, 6 }

-- Returns the results of run() for all items. Repeats the run if an item other than FAILED exceeds
-- the timeout, which may happen on a busy machine.
local function run_all(run, chain)
  local places, errors, raised
  for _ = 1, 10 do
    places, errors, raised = run(chain, closing_source(ITEMS))
    local slow = raised and raised.kind == "timeout" and raised.index ~= FAILED
    for i, e in pairs(errors) do slow = slow or e.kind == "timeout" and i ~= FAILED end
    if not slow then break end
  end
  return places, errors, raised
end

for how, kind in pairs(KINDS) do
  tests[how .. " in each stage: the error of the item is raised in its turn"] = function()
    for _, place in ipairs { "a", "b", "c" } do
      local chain <close> = failing_chain(place, how)
      each_way("stop", function(run, options)
        local places, _, e = run_all(run, chain)
        t.equal({ e.kind, e.stage, e.output, e.index }, { kind, place, "x", FAILED })
        if options.ordered then t.equal(places, { 1, 2 }) end
        for _, i in ipairs(places) do assert(i ~= FAILED) end
      end)
    end
  end

  tests[how .. ' in each stage, with "continue": the item has the error, and all others come'] =
    function()
      for _, place in ipairs { "a", "b", "c" } do
        local chain <close> = failing_chain(place, how)
        each_way("continue", function(run)
          local places, errors, raised = run_all(run, chain)
          local e = errors[FAILED]
          t.equal({ places, raised }, { OTHERS })
          t.equal({ e.kind, e.stage, e.output, e.index }, { kind, place, "x", FAILED })
          t.equal({ next(errors), next(errors, FAILED) }, { FAILED })
        end)
      end
    end

  tests[how .. " in init: the error of each item that needs the worker"] = function()
    for _, place in ipairs { "a", "c" } do
      local chain <close> = failing_chain(place, how, true)
      each_way("stop", function(run)
        local places, _, e = run(chain, closing_source(ITEMS))
        t.equal({ places, e.kind, e.stage }, { {}, kind, place })
        assert(1 <= e.index and e.index <= ITEMS)
      end)
      each_way("continue", function(run)
        local n = how == "hang" and 1 or ITEMS -- each item that hangs takes the whole timeout
        local places, errors, raised = run(chain, closing_source(n))
        t.equal({ places, #errors, raised }, { {}, n })
        for i, e in ipairs(errors) do
          t.equal({ e.kind, e.stage, e.index }, { kind, place, i })
        end
      end)
    end
  end
end

tests["an error in the source, or in the loop, is raised as it is"] = function()
  local chain <close> = failing_chain()
  for _, on_error in ipairs { "stop", "continue" } do
    each_way(on_error, function(run)
      local cause = { "mine" }
      local function fail_at_3(i) if i == FAILED then error(cause) end end
      local _, _, e = run(chain, closing_source(ITEMS, fail_at_3))
      assert(e == cause)
      _, _, e = run(chain, closing_source(ITEMS), fail_at_3)
      assert(e == cause)
    end)
  end
end

tests["a timeout around a source, a stage or a loop that hangs ends the stream"] = function()
  local chain <close> = failing_chain()
  local hanging <close> = failing_chain("b", "hang")
  hanging.stages[2]:register("x", function(x)
    if x == FAILED then os.execute "sleep 60" end
    return x
  end, { timeout = 60 })
  local function hang_at_3(i) if i == FAILED then fz.sleep(60) end end
  each_way("continue", function(run)
    local start = fz.now()
    for _, case in ipairs {
      { chain, closing_source(ITEMS, hang_at_3) },
      { chain, closing_source(ITEMS), hang_at_3 },
      { hanging, closing_source(ITEMS) },
    } do
      local ok, why = fz.with_timeout(0.2, run, table.unpack(case, 1, 3))
      t.equal({ ok, why, case[2].closed() }, { nil, "timeout", 1 })
    end
    assert(fz.now() - start < 30, "a sleep was not ended")
  end, { "script", "generator" }) -- not `task`, because with_timeout makes a task of `run`
end

tests["Ctrl-C in the source or in the loop ends the stream, and closes the source"] = function()
  for _, place in ipairs { "source", "loop" } do
    local out, _, status = t.interrupt(([[
      local stage, place = fz.stage "s", %q
      stage:register("x", function(x) return x end)
      local closing = setmetatable({}, { __close = function() print "closed" end })
      local function wait() ready() fz.sleep(60) end
      local function following(_, i)
        if place == "source" and i == 10 then wait() end
        return i + 1
      end
      for i in fz.chain { stage }:stream(following, nil, 0, closing, { jobs = 2 }) do
        if place == "loop" and i == 3 then wait() end
      end]]):format(place))
    t.equal({ out, status }, { "closed\n", 130 })
  end
end

return tests
