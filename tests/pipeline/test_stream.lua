-- test_stream.lua - chain:stream and dag:stream: results, order, window and sources.

local t = ...

local tests = {}

-- A chain of three stages, which compute y = 2 (x + 1) - 1.
local function three_stages()
  local add, double, subtract = fz.stage "add", fz.stage "double", fz.stage "subtract"
  add:register("x", function(x) return x + 1 end)
  double:register("x", function(x) return 2 * x end)
  subtract:register("y", { "x" }, function(x) return x - 1 end)
  return add >> double >> subtract
end

local function one_stage(f, options)
  options = options or {}
  options.name = options.name or "only"
  local stage = fz.stage(options)
  stage:register("x", f)
  return fz.chain { stage }
end

local counter = t.counter

-- The results of a loop by index; they come in order.
local function collect(...)
  local values = {}
  for i, out, e in ... do
    t.equal({ i, e }, { #values + 1, nil })
    values[i] = out
  end
  return values
end

tests["each item comes once, in order, with its outputs, for any number of jobs"] = function()
  for _, jobs in ipairs { 0, 1, 2, 8 } do
    local chain <close> = three_stages()
    for _, n in ipairs { 0, 1, 2, 7, 300 } do
      for _, source in ipairs { t.numbers(n), (counter(n)) } do
        local values = collect(chain:stream(source, { jobs = jobs }))
        t.equal(#values, n)
        for i = 1, n do t.equal(values[i], { x = 2 * i + 2, y = 2 * i + 1 }) end
      end
    end
  end
end

tests["without order, too, each item comes once"] = function()
  for _, jobs in ipairs { 0, 4 } do
    local chain <close> = three_stages()
    local seen, n = {}, 0
    for i, out in chain:stream(t.numbers(500), { ordered = false, jobs = jobs, inflight = 50 }) do
      assert(not seen[i])
      seen[i], n = true, n + 1
      t.equal(out.y, 2 * i + 1)
    end
    t.equal(n, 500)
  end
end

tests["without order a slow item does not hold up the others"] = function()
  local go = t.file ""
  os.remove(go)
  local chain <close> = one_stage(function(x)
    while x == 1 and not io.open(go) do os.execute "sleep 0.01" end
    return x
  end)
  local order = {}
  for i in chain:stream(t.numbers(6), { ordered = false, jobs = 2, inflight = 4 }) do
    order[#order + 1] = i
    if #order == 5 then io.open(go, "w"):close() end
  end
  t.equal(order[6], 1)
end

tests["the same outputs as an invoke of each item: names pass through, nils stay nils"] = function()
  local first, second = fz.stage "first", fz.stage "second"
  first:register("sum", { "a", "b" }, function(a, b) return a + b end)
  second:register({ "half", "none" }, { "sum" }, function(sum) return sum / 2, nil end)
  local chain <close> = first >> second
  local items = { { a = 1, b = 2, c = "kept" }, { a = 3, b = 4 }, { a = 5, b = 6, half = 9 } }
  for i, out in chain:stream(items) do t.equal(out, chain(items[i])) end
  second.pass_input = false
  t.equal(collect(chain:stream { items[1] }), { { half = 1.5 } })
end

tests["a stage without functions, and a chain that only passes on"] = function()
  local chain <close> = fz.stage "a" >> fz.stage "b"
  t.equal(collect(chain:stream { { A = 1 }, { B = {} } }), { { A = 1 }, { B = {} } })
  for jobs = 0, 1 do
    local none = fz.stage "none"
    none:register("time", {}, function() return 7 end)
    local alone <close> = fz.chain { none }
    t.equal(collect(alone:stream({ {}, {} }, { jobs = jobs })), { { time = 7 }, { time = 7 } })
  end
end

tests["a dag: its nodes join for each item"] = function()
  for _, jobs in ipairs { 0, 1, 4 } do
    local g <close> = fz.dag()
    g:add("twice", "x", function(x) return 2 * x end)
    g:add("square", "x", function(x) return x * x end)
    g:add("sum", { "twice", "square" }, function(a, b) return a + b end)
    local values = collect(g:stream((counter(100)), { jobs = jobs }))
    t.equal(#values, 100)
    for i, out in ipairs(values) do
      t.equal(out, { twice = 2 * i, square = i * i, sum = 2 * i + i * i })
    end
  end
end

tests["the window: no more than inflight items are read and not returned"] = function()
  for _, jobs in ipairs { 0, 1, 3 } do
    local chain <close> = three_stages()
    for _, inflight in ipairs { 1, 2, 5, 100 } do
      local source, read = counter(250)
      local returned, most = 0, 0
      for _ in chain:stream(function()
        most = math.max(most, read() - returned + 1)
        return source()
      end, { inflight = inflight, jobs = jobs }) do
        returned = returned + 1
        assert(read() - returned < inflight)
      end
      t.equal(returned, 250)
      assert(most <= inflight, most)
    end
  end
end

-- Run a stream of `n` items without the option `inflight`. Returns the maximum number of items that
-- were read and not yet returned.
local function most_read(chain, n, jobs)
  local source, read = counter(n)
  local returned, most = 0, 0
  for i in chain:stream(source, { jobs = jobs }) do
    most = math.max(most, read() - returned)
    returned = i
  end
  return most
end

tests["without inflight the window is twice the workers"] = function()
  for _, case in ipairs { { 0, nil, 1 }, { 1, nil, 2 }, { 3, nil, 6 }, { 8, 2, 4 } } do
    local jobs, workers, expected = table.unpack(case, 1, 3)
    local chain <close> = one_stage(function(x)
      os.execute "sleep 0.01"
      return x
    end, { workers = workers })
    t.equal(most_read(chain, 20, jobs), expected)
  end
end

tests["a ready result is returned before the source is read again"] = function()
  local chain <close> = one_stage(function(x) return x end)
  local log = {}
  local source = counter(6)
  for i in chain:stream(function()
    log[#log + 1] = "read"
    return source()
  end, { inflight = 1 }) do
    log[#log + 1] = i
  end
  t.equal(table.concat(log, " "), "read 1 read 2 read 3 read 4 read 5 read 6 read")
end

tests["an endless source that waits does not withhold results"] = function()
  local chain <close> = one_stage(function(x) return x end)
  local source = counter()
  for i in chain:stream(function() -- with a thousand calls, the test would exceed its time limit
    t.sleep(0.03)
    return source()
  end, { inflight = 100000 }) do
    if i == 20 then break end
  end
end

tests["results are returned while the source waits for what the loop makes"] = function()
  local function all()
    for _, ordered in ipairs { true, false } do
      for _, jobs in ipairs { 0, 1, 2 } do
        local chain <close> = three_stages()
        local queue, values = fz.queue(), {}
        queue:put(1)
        local source = coroutine.wrap(function()
          while true do coroutine.yield((queue:get())) end
        end)
        for _, out in chain:stream(source, { jobs = jobs, ordered = ordered }) do
          values[#values + 1] = out.y
          if #values == 5 then queue:close() else queue:put(out.y) end
        end
        t.equal(values, { 3, 7, 15, 31, 63 })
      end
    end
  end
  all()
  fz.await(fz.spawn(all))
end

tests["sources: callables, holes, ipairs, pairs, lines of a file"] = function()
  local chain <close> = one_stage(function(x) return x end)
  local n = 0
  local callable = setmetatable({}, { __call = function()
    n = n + 1
    return n <= 2 and n or nil
  end })
  t.equal(collect(chain:stream(callable)), { { x = 1 }, { x = 2 } })
  t.equal(collect(chain:stream(("a b"):gmatch "%a")), { { x = "a" }, { x = "b" } })
  t.equal(collect(chain:stream { "s", false, 1.5 }), { { x = "s" }, { x = false }, { x = 1.5 } })
  local both = fz.stage "both"
  both:register("pair", { "key", "value" }, function(k, v) return k .. "=" .. v end)
  local pairing <close> = fz.chain { both }
  t.equal(collect(pairing:stream(ipairs { "p", "q" }))[2], { key = 2, value = "q", pair = "2=q" })
  t.equal(collect(pairing:stream(pairs { k = "v" }))[1].pair, "k=v")
  local path = t.file "one\ntwo\n"
  local lines = {}
  for _, out in chain:stream(io.lines(path)) do lines[#lines + 1] = out.x end
  t.equal(lines, { "one", "two" })
end

tests["an item is encoded when it is read, so that the source may use its table again"] = function()
  local chain <close> = one_stage(function(x) return x end)
  local item, n = { x = {} }, 0
  local values = collect(chain:stream(function()
    n = n + 1
    item.x[1], item.other = n, n
    return n <= 50 and item or nil
  end, { inflight = 50 }))
  for i = 1, 50 do t.equal(values[i], { x = { i }, other = i }) end
end

tests["big items and results, in and out of the arena"] = function()
  local chain <close> = one_stage(function(x) return x .. "!" end)
  local sizes = { 0, 1, 70000, 10, 1 << 20, 5 << 20, 3, 66000 }
  for i, out in chain:stream(function()
    local size = table.remove(sizes, 1)
    return size and ("x"):rep(size) or nil
  end) do
    local expected = ({ 0, 1, 70000, 10, 1 << 20, 5 << 20, 3, 66000 })[i]
    t.equal(#out.x, expected + 1)
  end
end

tests["random numbers depend on the seed and the index, not on jobs, order, retries"] = function()
  local function values(...)
    local chain <close> = one_stage(function() return math.random(1 << 40) end)
    local list = {}
    for i, out in chain:stream(t.numbers(20), ...) do list[i] = out.x end
    return list
  end
  local expected = values { seed = 7, jobs = 0 }
  t.equal(values { seed = 7, jobs = 1 }, expected)
  t.equal(values { seed = 7, jobs = 4, ordered = false }, expected)
  assert(expected[1] ~= expected[2])
  assert(values { seed = 8 }[1] ~= expected[1])
  local failed = t.file ""
  os.remove(failed)
  local chain <close> = one_stage(function(x)
    local number = math.random(1 << 40)
    if x == 5 and not io.open(failed) then
      io.open(failed, "w"):close()
      error "once"
    end
    return number
  end)
  for i, out in chain:stream(t.numbers(20), { seed = 7, retries = 1 }) do
    t.equal(out.x, expected[i])
  end
  assert(io.open(failed)):close()
end

tests["init runs once in each worker of a stage"] = function()
  local marks = t.file ""
  local function mark()
    local file <close> = io.open(marks, "a")
    file:write(fz.current_process().pid, "\n")
  end
  local stage = fz.stage { name = "model", workers = 2, init = mark }
  stage:register("x", function(x)
    os.execute "sleep 0.01"
    return x
  end)
  local chain <close> = fz.chain { stage }
  collect(chain:stream(t.numbers(20), { jobs = 2 }))
  collect(chain:stream(t.numbers(20), { jobs = 2 }))
  local pids, n = {}, 0
  for pid in io.lines(marks) do
    assert(not pids[pid])
    pids[pid], n = true, n + 1
  end
  assert(n >= 1 and n <= 2, n)
end

tests["several streams at once, of one chain, and a stream inside a loop of another"] = function()
  local chain <close> = three_stages()
  local n = 0
  for i, out in chain:stream(t.numbers(10)) do
    for k, inner in chain:stream(t.numbers(5), { jobs = 2 }) do
      t.equal({ out.y, inner.y }, { 2 * i + 1, 2 * k + 1 })
      n = n + 1
    end
    t.equal(chain({ x = i }).y, 2 * i + 1)
  end
  t.equal(n, 50)
end

tests["a source may stream and invoke, too"] = function()
  local chain, inner <close> = three_stages(), three_stages()
  local _ <close> = chain
  local source = counter(10)
  local values = collect(chain:stream(function()
    local i = source()
    if not i then return nil end
    return collect(inner:stream { i })[1].y
  end))
  t.equal(#values, 10)
  for i, out in ipairs(values) do t.equal(out.y, 2 * (2 * i + 1) + 1) end
end

tests["a stream in a worker"] = function()
  local outer = fz.stage "outer"
  outer:register("x", function(x)
    local chain <close> = three_stages()
    local sum = 0
    for _, out in chain:stream(t.numbers(x)) do sum = sum + out.y end
    return sum
  end)
  local chain <close> = fz.chain { outer }
  t.equal(collect(chain:stream { 3, 4 }), { { x = 15 }, { x = 24 } })
end

tests["progress: each function of each item, the last call has done == total"] = function()
  for _, jobs in ipairs { 0, 2 } do
    local chain <close> = three_stages()
    local kinds, last, indexes = {}, nil, {}
    local check_order = t.event_order()
    for _ in chain:stream(t.numbers(20), { jobs = jobs, progress = function(done, total, event)
      check_order(event)
      kinds[event.kind] = (kinds[event.kind] or 0) + 1
      indexes[event.index], last = true, { done, total }
      assert(event.stage and event.output)
    end }) do end
    t.equal(kinds, { start = 60, done = 60 })
    t.equal({ #indexes, last }, { 20, { 20, 20 } })
  end
end

tests["wrong sources and options are raised at the user's line"] = function()
  local chain <close> = three_stages()
  t.match(t.wrong(chain.stream, chain), "bad argument #1 to 'stream'", "got no value")
  t.match(t.wrong(chain.stream, chain, 5), "bad argument #1 to 'stream'", "got number")
  t.match(t.wrong(chain.stream, chain, {}, { chunksize = 2 }), "bad option 'chunksize'")
  t.match(t.wrong(chain.stream, chain, {}, { inflight = 0 }), "bad option 'inflight'")
  t.match(t.wrong(chain.stream, chain, {}, { ordered = 1 }), "bad option 'ordered'")
end

return tests
