-- test_imap.lua - pool:imap and pool:imap_unordered: lazy, in order or as they come.

local t = ...

local tests = {}

local function twice(x)
  return x * 2
end

local counter = t.counter

-- Call f(imap, pool) for both kinds, with workers and with -j0.
local function every_way(f)
  for _, name in ipairs { "imap", "imap_unordered" } do
    for _, workers in ipairs { 1, 2, 5 } do
      local pool <close> = fz.pool(workers)
      f(function(...) return pool[name](pool, ...) end, pool, workers, name)
    end
    local _ <close> = t.in_this_process()
    local pool <close> = fz.pool()
    f(function(...) return pool[name](pool, ...) end, pool, 1, name)
  end
end

-- The values and the errors of a loop, by index, and their number.
local function collect(...)
  local values, errors, n = {}, {}, 0
  for i, v, e in ... do
    assert(values[i] == nil and errors[i] == nil, "twice the same index")
    values[i], errors[i], n = v, e, n + 1
  end
  return values, errors, n
end

tests["each result comes once, with its place, imap in order"] = function()
  every_way(function(imap, _, _, name)
    for _, n in ipairs { 0, 1, 2, 7, 500 } do
      for _, source in ipairs { t.numbers(n), (counter(n)) } do
        local values, _, count = collect(imap(twice, source))
        t.equal({ count, #values }, { n, n })
        for i = 1, n do t.equal(values[i], 2 * i) end
      end
    end
    local last = 0
    for i in imap(twice, t.numbers(200)) do
      if name == "imap" then t.equal(i, last + 1) end
      last = i
    end
  end)
end

tests["imap_unordered hands out what is there, imap waits for the first"] = function()
  local go = t.file ""
  os.remove(go)
  local function f(x)
    while x == 1 and not io.open(go) do os.execute "sleep 0.01" end
    return x
  end
  local pool <close> = fz.pool(2)
  local order = {}
  for i in pool:imap_unordered(f, t.numbers(4)) do
    order[#order + 1] = i
    if #order == 3 then io.open(go, "w"):close() end
  end
  t.equal(order[4], 1)
  order = {}
  for i in pool:imap(f, t.numbers(4)) do order[#order + 1] = i end
  t.equal(order, { 1, 2, 3, 4 })
end

tests["nils: holes of a list with n, and results that are nothing"] = function()
  every_way(function(imap)
    local values, errors, n = collect(imap(function(x) return x == nil and "hole" or nil end,
      { 1, nil, 3, n = 4 }))
    t.equal({ values, errors, n }, { { [2] = "hole", [4] = "hole" }, {}, 4 })
  end)
end

tests["a source may be any callable, and a list of any kind of values"] = function()
  every_way(function(imap)
    local i = 0
    local callable = setmetatable({}, { __call = function()
      i = i + 1
      return i <= 3 and { i } or nil
    end })
    t.equal((collect(imap(function(x) return x[1] end, callable))), { 1, 2, 3 })
    t.equal((collect(imap(function(x) return x end, { false, "s", 1.5, { {} } }))),
      { false, "s", 1.5, { {} } })
    local words = ("a b c"):gmatch "%a"
    t.equal((collect(imap(string.upper, words))), { "A", "B", "C" })
  end)
end

tests["a source may use the pool"] = function()
  local pool <close> = fz.pool(2)
  local i = 0
  local values = collect(pool:imap(twice, function()
    i = i + 1
    return i <= 20 and pool:apply(twice, i) or nil
  end))
  for k = 1, 20 do t.equal(values[k], 4 * k) end
end

tests["several loops at once, one inside the other"] = function()
  local pool <close> = fz.pool(2)
  local n = 0
  for i, v in pool:imap(twice, t.numbers(10)) do
    for k, w in pool:imap_unordered(twice, t.numbers(5)) do
      t.equal({ v, w }, { 2 * i, 2 * k })
      n = n + 1
    end
  end
  t.equal(n, 50)
end

tests["the numbers of a seed are those of map"] = function()
  local function draw() return math.random(0) end
  local expected
  every_way(function(imap, pool)
    expected = expected or pool:map(draw, t.numbers(30), { seed = 7 })
    local values = collect(imap(draw, counter(30), { seed = 7 }))
    for i = 1, 30 do t.equal(values[i], expected[i]) end
  end)
end

tests["an endless source: starts at once, is read no further than inflight"] = function()
  every_way(function(imap)
    for _, inflight in ipairs { 1, 3, 0 } do
      local source, read = counter()
      local ahead = inflight > 0 and inflight or 1024
      local taken, most = 0, 0
      for i, v in imap(twice, source, { inflight = inflight > 0 and inflight or nil }) do
        t.equal(v, 2 * i)
        most = math.max(most, read() - taken)
        taken = taken + 1
        if taken == 100 then break end
      end
      assert(most <= ahead, ("%d read ahead"):format(most))
      assert(read() <= 100 + ahead)
    end
  end)
end

tests["results are not held back while a slow source is read"] = function()
  local pool <close> = fz.pool(2)
  local begun = t.file ""
  local source, read = counter(3)
  local seen = {}
  for i in pool:imap(function(x) io.open(begun, "a"):write(x):close() return x end, function()
    return source()
  end, { inflight = 1 }) do
    seen[#seen + 1] = i
    assert(read() <= 3)
  end
  t.equal(seen, { 1, 2, 3 })
  t.equal(#io.open(begun):read "a", 3)
end

tests["a ready result is handed out before the source is asked again"] = function()
  every_way(function(imap)
    for _, inflight in ipairs { 1, 4, 0 } do
      -- The loop below adds new work for each result. If the source has no work, it was called too
      -- early. The source is slow, so the next result is ready before the source is called again.
      local work, asked, seen = { 1 }, 0, 0
      local function source()
        asked = asked + 1
        local x = table.remove(work)
        local till = fz.now() + 0.002
        while fz.now() < till do end
        return x
      end
      for _, v in imap(twice, source, { inflight = inflight > 0 and inflight or nil,
        on_error = "continue" }) do
        seen = seen + 1
        if v < 64 then work[#work + 1] = v end
        if inflight == 1 then t.equal(asked, seen) end
      end
      if inflight == 1 then t.equal(seen, 6) end
    end
  end)
end

tests["results of a slow source come while it is asked for more"] = function()
  local pool <close> = fz.pool(2)
  local read, handed, behind = 0, 0, 0
  local never, computed = fz.event(), fz.value("i", 0)
  for _ in pool:imap(function() computed:add(1) end, function()
    behind = math.max(behind, read - handed)
    if read == 5 then return nil end
    local late = fz.now() + 20
    while computed.value < read and fz.now() < late do never:wait(0.01) end
    never:wait(0.2) -- gives the result time to arrive
    read = read + 1
    return read
  end) do
    handed = handed + 1
  end
  t.equal(handed, 5)
  assert(behind <= 2, behind)
end

tests["an iterator with state: f gets the values of a loop's turn"] = function()
  every_way(function(imap)
    local function join(...) return table.concat({ ... }, ",") end
    t.equal((collect(imap(join, ipairs { "a", "b" }))), { "1,a", "2,b" })
    t.equal((collect(imap(join, pairs { x = 5 }))), { "x,5" })
    t.equal((collect(imap(join, utf8.codes "hé"))), { "1,104", "2,233" })
    local function count(limit, i) if i < limit then return i + 1 end end
    t.equal((collect(imap(twice, count, 3, 0))), { 2, 4, 6 })
    local values, errors = collect(imap(function(i) if i == 2 then error "no" end return i end,
      count, 3, 0, nil, { on_error = "continue" }))
    t.equal({ values, errors[2].index }, { { 1, nil, 3 }, 2 })
  end)
end

tests["the closing value of an iterator is closed when the loop is left"] = function()
  every_way(function(imap)
    local path = t.file "1\n2\n3\n"
    t.equal((collect(imap(tonumber, io.lines(path)))), { 1, 2, 3 })
    for _, leave in ipairs { true, false } do
      local closed = 0
      local guard = setmetatable({}, { __close = function() closed = closed + 1 end })
      for _ in imap(twice, (counter(3)), nil, nil, guard) do
        if leave then break end
      end
      t.equal(closed, 1)
    end
  end)
end

tests["a table that the source uses again is taken as it was when it was read"] = function()
  every_way(function(imap)
    local row, n = {}, 0
    local values = collect(imap(function(x) return type(x) == "table" and x[1] or x end, function()
      n = n + 1
      if n > 300 then return nil end
      if n % 3 == 0 then return n end
      row[1] = n
      return row
    end, { inflight = 200 }))
    for i = 1, 300 do t.equal(values[i], i) end
  end)
end

tests["a source and a loop may yield to the coroutine around them"] = function()
  every_way(function(imap)
    local seen, asked = {}, 0
    local run = coroutine.wrap(function()
      local source = counter(20)
      for i, v in imap(twice, function()
        if coroutine.yield "source" ~= "on" then error "resumed with another value" end
        return source()
      end, { on_error = "continue" }) do
        seen[i] = v
        coroutine.yield "loop"
      end
      return "end"
    end)
    local what = run()
    while what ~= "end" do
      if what == "source" then asked = asked + 1 end
      what = run "on"
    end
    t.equal({ asked, #seen, seen[20] }, { 21, 20, 40 })
  end)
end

tests["results that arrive while the source ends are not lost"] = function()
  every_way(function(imap)
    for _ = 1, 20 do
      local i, n = 0, 0
      local function source()
        i = i + 1
        if i <= 50 then return i end
        local start = fz.now()
        while fz.now() < start + 0.003 do end
      end
      for _ in imap(twice, source) do n = n + 1 end
      t.equal(n, 50)
    end
  end)
end

tests["results are returned while the source waits"] = function()
  every_way(function(imap)
    local go = fz.event()
    local read, seen = 0, {}
    for i, v in imap(twice, function()
      read = read + 1
      if read == 4 then go:wait() end
      if read < 6 then return read end
    end) do
      seen[i] = v
      if i == 3 then go:set() end
    end
    t.equal(seen, { 2, 4, 6, 8, 10 })
  end)
end

tests["a source may wait for what the loop makes of results"] = function()
  every_way(function(imap)
    local queue, open, values = fz.queue(), 1, {}
    queue:put(1)
    for _, v in imap(twice, function() return (queue:get()) end) do
      open = open - 1
      values[#values + 1] = v
      if v < 20 then
        queue:put(v)
        queue:put(v + 1)
        open = open + 2
      end
      if open == 0 then queue:close() end
    end
    table.sort(values)
    t.equal({ #values, values[1], values[#values] }, { 19, 2, 38 }) -- results of items 1 to 19
  end)
end

tests["a loop that is left ends the wait of its source"] = function()
  every_way(function(imap)
    local closed, never, waits = 0, fz.event(), fz.queue()
    local source = coroutine.wrap(function()
      local _ <close> = setmetatable({}, { __close = function() closed = closed + 1 end })
      for i = 1, 3 do coroutine.yield(i) end
      waits:put(true)
      never:wait()
    end)
    local function last_when_source_waits(i)
      if i == 3 and fz.current_process().worker then waits:get() end
      return i
    end
    for i in imap(last_when_source_waits, source) do
      if i == 3 then break end
    end
    t.equal(closed, 1)
    local cause = { "the source's own" }
    local n = 0
    local ok, e = pcall(function()
      for i in imap(twice, function()
        n = n + 1
        if n == 3 then fz.sleep(0.01) error(cause) end
        return n
      end) do assert(i < 3) end
    end)
    assert(not ok and e == cause)
  end)
end

-- Item i, whose kind is i % 7: a number, a string, a table and so on.
local function mixed(i)
  local long = ("x"):rep(1100) .. i
  local kinds = { [0] = i, "s" .. i, { i }, coroutine.create(print), long, i % 2 == 0, i + 0.5 }
  return kinds[i % 7]
end

local function mixed_result(x)
  if x == 2100 or x == "s1009" then error "no" end
  if type(x) == "table" then return { x[1] + 1 } end
  if x == true then return nil end
  return x
end

tests["items and results of all kinds keep their places when slots are used again"] = function()
  every_way(function(imap)
    for _, inflight in ipairs { 0, 5, 3000 } do
      local n, i = 4000, 0
      local values, errors, count = collect(imap(mixed_result, function()
        i = i + 1
        if i <= n then return mixed(i) end
      end, { inflight = inflight > 0 and inflight or nil, on_error = "continue" }))
      t.equal(count, n)
      for k = 1, n do
        local item, e = mixed(k), errors[k]
        if type(item) == "thread" then
          t.equal({ e.kind, e.index }, { "unsendable", k })
        elseif item == 2100 or item == "s1009" then
          t.equal({ e.kind, e.index }, { "error", k })
        elseif type(item) == "table" then
          t.equal(values[k][1], k + 1)
        elseif item == true then
          t.equal({ values[k], e }, {})
        else
          t.equal(values[k], item)
        end
      end
    end
  end)
end

tests["imap_unordered goes on beside an item that takes long, and retries that item"] = function()
  local go = t.file ""
  os.remove(go)
  local function f(s)
    if s == "item 1" and not io.open(go) then
      while not io.open(go) do os.execute "sleep 0.01" end
      os.execute "kill -9 $PPID"
    end
    return s .. "!"
  end
  local pool <close> = fz.pool(2)
  local source, seen = counter(4000), 0
  for i, v, e in pool:imap_unordered(f, function()
    local i = source()
    return i and "item " .. i
  end, { inflight = 8, retries = 1 }) do
    t.equal({ v, e }, { "item " .. i .. "!" })
    seen = seen + 1
    if seen == 3000 then io.open(go, "w"):close() end
  end
  t.equal(seen, 4000)
end

tests["inflight may be larger than the window that sizes itself"] = function()
  local go = t.file ""
  os.remove(go)
  local pool <close> = fz.pool(2)
  local source, read = counter(3000)
  local last = 0
  for i in pool:imap(function(x)
    while x == 1 and not io.open(go) do os.execute "sleep 0.01" end
    return x
  end, function()
    if read() == 2500 then io.open(go, "w"):close() end
    return source()
  end, { inflight = 2800 }) do
    last = i
  end
  t.equal(last, 3000)
end

tests["long strings fill the window"] = function()
  every_way(function(imap)
    for _, result in ipairs { 0, 1 } do
      local n = t.rounds(60)
      local source, read = counter(n)
      local returned, most = 0, 0
      for _, v in imap(function(s) return result == 1 and s or #s end, function()
        return source() and ("x"):rep(1 << 20)
      end) do
        t.equal(result == 1 and #v or v, 1 << 20)
        most = math.max(most, read() - returned)
        returned = returned + 1
      end
      t.equal(returned, n)
      assert(most <= 10, ("%d MiB are read ahead"):format(most))
    end
  end)
end

local function resident()
  local file <close> = assert(io.open "/proc/self/statm")
  local _, pages = file:read("n", "n")
  return pages * 4096
end

tests["memory stays flat over 200,000 items"] = function()
  -- Reset the collector: after a test with large values, Lua up to 5.4.5 lets as much garbage
  -- collect again before its next cycle.
  collectgarbage "incremental"
  collectgarbage()
  collectgarbage "generational"
  local pool <close> = fz.pool(2)
  for _, name in ipairs { "imap", "imap_unordered" } do
    local source = counter(200000)
    local sum, early = 0
    for i, v in pool[name](pool, twice, source, { inflight = 200 }) do
      sum = sum + v
      if i == 20000 then
        collectgarbage()
        early = resident()
      end
    end
    collectgarbage()
    t.equal(sum, 200000 * 200001)
    -- A sanitizer does not reuse freed memory at once.
    local more = resident() - early
    assert(os.getenv "ASAN_OPTIONS" or more < 16 << 20, ("%d KiB more"):format(more >> 10))
  end
end

local function at_7(x)
  if x == 7 then error { code = 7 } end
  return x
end

tests["a failed item raises, with continue it yields its index, nil and its error"] = function()
  every_way(function(imap, pool)
    local e = t.fails("error", collect, imap(at_7, t.numbers(50)))
    t.equal({ e.index, e.cause }, { 7, { code = 7 } })
    t.match(e, "item 7, attempt 1", "stack traceback:")
    local values, errors, n = collect(imap(at_7, t.numbers(50), { on_error = "continue" }))
    t.equal({ n, values[7], values[50] }, { 50, nil, 50 })
    t.equal({ next(errors), errors[7].index, next(errors, 7) }, { 7, 7 })
    t.equal({ errors[7].kind, errors[7].cause }, { "error", { code = 7 } })
    t.equal(pool:apply(twice, 2), 4)
  end)
end

tests["what cannot be sent is the item's error, with its path"] = function()
  every_way(function(imap)
    local co = coroutine.create(print)
    local values, errors, n = collect(imap(type, { 1, { cfg = { cb = co } }, 3 },
      { on_error = "continue" }))
    t.equal({ n, values[1], values[3], errors[2].kind }, { 3, "number", "number", "unsendable" })
    t.match(errors[2], "item 2", "argument 1: .cfg.cb: a coroutine cannot be sent")
    t.match(t.fails("unsendable", collect, imap(type, { 1, co })), "item 2", "a coroutine")
    local _, failed = collect(imap(function(x)
      return x == 2 and { coroutine.create(print) } or x
    end, { 1, 2, 3 }, { on_error = "continue" }))
    t.match(failed[2], "item 2", "result: [1]: a coroutine cannot be sent")
  end)
end

tests["an error in the source raises as it is, and ends the loop"] = function()
  every_way(function(imap, pool)
    local source = counter()
    local function failing()
      local x = source()
      if x == 20 then error { "the source's" } end
      return x
    end
    local ok, e = pcall(collect, imap(twice, failing))
    t.equal({ ok, e }, { false, { "the source's" } })
    t.equal(pool:apply(twice, 2), 4)
  end)
end

tests["retries and timeout are per item"] = function()
  local marks = t.file ""
  local pool <close> = fz.pool(2)
  local values = collect(pool:imap(function(x)
    local path = marks .. x
    if x % 3 == 0 and not os.remove(path) then
      io.open(path, "w"):close()
      error "not yet"
    end
    return x
  end, t.numbers(20), { retries = 1 }))
  for i = 1, 20 do t.equal(values[i], i) end
  local _, errors, n = collect(pool:imap_unordered(function(x)
    while x == 3 do end
    return x
  end, t.numbers(6), { timeout = 2, on_error = "continue" }))
  t.equal({ n, next(errors), errors[3].kind, errors[3].index }, { 6, 3, "timeout", 3 })
end

tests["an error in init is every item's error"] = function()
  local pool <close> = fz.pool { workers = 2, init = function() error "no model" end }
  local _, errors, n = collect(pool:imap(twice, t.numbers(5), { on_error = "continue" }))
  t.equal(n, 5)
  for i = 1, 5 do t.match(errors[i], "no model") end
end

tests["leaving the loop ends what runs, by break, error or return"] = function()
  local pool <close> = fz.pool(2)
  local begun = t.file ""
  local function f(x)
    if x > 2 then
      io.open(begun, "a"):write("x"):close()
      while true do end
    end
    return x
  end
  for _, how in ipairs { "break", "error", "return" } do
    local ok, e = pcall(function()
      for i in pool:imap(f, (counter())) do
        if i == 2 then
          if how == "error" then error("mine", 0) end
          if how == "return" then return how end
          break
        end
      end
      return "break"
    end)
    t.equal({ ok, e }, { how ~= "error", how == "error" and "mine" or how })
    t.equal(pool:map(twice, { 1, 2, 3 }), { 2, 4, 6, n = 3 })
  end
end

tests["a loop that is dropped or never begun ends"] = function()
  local pool <close> = fz.pool(2)
  do
    local step = pool:imap(twice, (counter()))
    t.equal({ step() }, { 1, 2 })
    pool:imap(twice, (counter()))
  end
  collectgarbage()
  collectgarbage()
  t.equal(pool:apply(twice, 1), 2)
end

tests["the loop keeps its pool, after the end it says nil"] = function()
  local step
  do
    local pool = fz.pool(1)
    step = pool:imap(twice, t.numbers(3))
  end
  collectgarbage()
  collectgarbage()
  t.equal({ select(2, step()), select(2, step()), select(2, step()) }, { 2, 4, 6 })
  t.equal({ step() }, {})
  t.equal({ step() }, {})
end

tests["a pool that is closed, or ended, during the loop"] = function()
  local pool = fz.pool(2)
  local n = 0
  local ok, e = pcall(function()
    for i in pool:imap(twice, t.numbers(100)) do
      n = i
      if i == 5 then pool:terminate() end
    end
  end)
  assert(not ok and getmetatable(e) == fz.Error, tostring(e))
  assert(e.kind == "cancelled" or e.kind == "closed", e.kind)
  assert(n >= 5 and n < 100, n)
  t.equal(pool:join(), true)
  local finishing = fz.pool(2)
  local values = {}
  for i, v in finishing:imap(twice, t.numbers(100)) do
    values[i] = v
    if i == 5 then finishing:close() end
  end
  t.equal({ #values, values[100] }, { 100, 200 })
  t.equal(finishing:join(), true)
end

tests["wrong sources raise at the user's line"] = function()
  every_way(function(imap, _, _, name)
    local what = ("'pool:%s'"):format(name)
    t.match(t.wrong(imap, twice), "#2", what, "a list or an iterator expected, got no value")
    t.match(t.wrong(imap, twice, 5), "#2", what, "got number")
    t.match(t.wrong(imap, twice, "abc"), "#2", what, "got string")
    t.match(t.wrong(imap, twice, io.stdout), "#2", what, "FILE*")
  end)
end

tests["join and a scope wait for no imap that is not read to its end"] = function()
  for _, name in ipairs { "imap", "imap_unordered" } do
    local unread, broken, inner
    do
      local pool <close> = fz.pool(2)
      unread = pool[name](pool, twice, { 1, 2, 3 }) -- this iterator is never called
      broken = pool[name](pool, twice, (counter(100)))
      broken() -- the iterator is left after one item, and has no closing value
      inner = coroutine.wrap(function()
        for _, v in pool[name](pool, twice, { 1, 2, 3 }) do coroutine.yield(v) end
      end)
      inner()
    end
    local pool = fz.pool(2)
    local next_item = pool[name](pool, twice, counter(100), { inflight = 4 })
    next_item()
    pool:close()
    t.equal(pool:join(60), true)
    t.fails("closed", unread)
    -- Results of items that were read before still arrive.
    local n = 0
    local e = t.fails("closed", function() for _ in next_item do n = n + 1 end end)
    t.match(e.message, "before the source was read to its end")
    assert(n >= 1 and n <= 6, n)
    t.equal(next_item(), nil)
  end
end

tests["a loop over an imap may close its pool and goes on"] = function()
  local pool = fz.pool(2)
  local sum = 0
  for i, v in pool:imap(twice, t.numbers(50), { inflight = 2 }) do
    if i == 1 then pool:close() end
    sum = sum + v
  end
  t.equal({ sum, pool:join(60) }, { 50 * 51, true })
end

tests["chunksize changes no result"] = function()
  every_way(function(imap)
    for _, chunksize in ipairs { 1, 3, 100 } do
      for _, source in ipairs { t.numbers(250), (counter(250)) } do
        local values, _, n = collect(imap(twice, source, { chunksize = chunksize }))
        t.equal({ n, values[1], values[250] }, { 250, 2, 500 })
      end
    end
  end)
end

return tests
