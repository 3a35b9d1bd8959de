-- test_window.lua - the iterators of pool:imap and chain:stream: called by several tasks, and
-- closed while the source waits.

local t = ...

local tests = {}

local function same(x) return x end

-- Call f(open, name) for all kinds of windows. open(source, options) returns the four values for a
-- loop over the results, and a function that ends the pool or the chain.
local function every_window(f)
  for _, name in ipairs { "imap", "imap_unordered" } do
    local pool <close> = fz.pool(2)
    f(function(...)
      local following, state, control, closing = pool[name](pool, same, ...)
      return following, state, control, closing, function() pool:terminate() end
    end, name)
  end
  for _, ordered in ipairs { true, false } do
    local stage = fz.stage "only"
    stage:register("y", "x", same)
    local chain <close> = fz.chain { stage }
    f(function(source, options)
      options = options or {}
      options.ordered, options.jobs = ordered, 2
      local following, state, control, closing = chain:stream(source, options)
      return following, state, control, closing, function() chain:close() end
    end, ordered and "stream" or "stream without order")
  end
end

-- A source of 1 to n that waits before each third item.
local function waiting_source(n)
  local source = t.counter(n)
  return function()
    local i = source()
    if i and i % 3 == 0 then fz.sleep(0.001) end
    return i
  end
end

tests["tasks that call one iterator get a result each, and all get the end"] = function()
  every_window(function(open)
    for _, inflight in ipairs { 1, 3, 20 } do
      for _, source in ipairs { t.numbers(30), waiting_source(30) } do
        local following <const> = open(source, { inflight = inflight })
        local seen, n, tasks = {}, 0, {}
        for k = 1, 7 do
          tasks[k] = fz.spawn(function()
            for i in following do
              assert(not seen[i], "an item came twice")
              seen[i], n = true, n + 1
            end
          end)
        end
        for k = 1, 7 do tasks[k]:await() end
        t.equal(n, 30)
      end
    end
  end)
end

tests["calls of one iterator get the results in the order of the calls"] = function()
  every_window(function(open, name)
    local following = open(waiting_source(12), { inflight = 2 })
    local tasks, indexes = {}, {}
    for k = 1, 12 do tasks[k] = fz.spawn(following) end
    for k = 1, 12 do indexes[k] = tasks[k]:await() end
    if name:find "unordered" or name:find "without" then table.sort(indexes) end
    t.equal(indexes, t.numbers(12))
    t.equal(following(), nil)
  end)
end

tests["a call that is cancelled gives up its turn"] = function()
  every_window(function(open)
    local go = fz.future()
    local source = t.counter(3)
    local following = open(function()
      go:await()
      return source()
    end, { inflight = 1 })
    local first, second, third = fz.spawn(following), fz.spawn(following), fz.spawn(following)
    fz.sleep(0.01)
    second:cancel()
    first:cancel()
    local last = fz.spawn(following)
    fz.sleep(0.01)
    go:set_result()
    t.equal({ (third:await()), (last:await()), (following()), (following()) }, { 1, 2, 3 })
  end)
end

tests["the script, and a task that cannot be suspended, call an iterator as tasks do"] = function()
  every_window(function(open)
    local following = open(waiting_source(9), { inflight = 1 })
    local seen = {}
    local function call()
      local i = following()
      assert(not seen[i])
      seen[i] = true
    end
    local tasks = {}
    for k = 1, 3 do tasks[k] = fz.spawn(call) end
    tasks[4] = fz.spawn(function()
      string.gsub("abc", ".", call) -- call() waits below a C function
    end)
    for _ = 1, 3 do call() end
    for k = 1, 4 do tasks[k]:await() end
    t.equal({ #seen, (following()) }, { 9 })
  end)
end

tests["an error is that of one call, and the calls behind it get the end"] = function()
  every_window(function(open)
    local following = open(function()
      fz.sleep(0.01)
      error("no items", 0)
    end)
    local tasks = {}
    for k = 1, 3 do tasks[k] = fz.spawn(following) end
    t.equal({ pcall(tasks[1].await, tasks[1]) }, { false, "no items" })
    t.equal({ tasks[2]:await(), (tasks[3]:await()) }, {})
  end)
end

-- Endless waits of a source.
local WAITS <const> = [[
local pending, queue = fz.future(), fz.queue()
local waits = {
  future = function() pending:await() end,
  queue = function() queue:get() end,
  sleep = function() fz.sleep(1000) end,
  group = function() fz.group(function(g) g:spawn(fz.sleep, 1000) end) end,
  apply = function() fz.pool(1):apply(os.execute, "sleep 1000") end,
  generator = function() coroutine.wrap(function() pending:await() end)() end,
}
local function same(x) return x end
local stage, pool = fz.stage "only", fz.pool(1)
stage:register("y", "x", same)
local chain = fz.chain { stage }
]]

-- Each way to leave the loop. The source waits when it is read for the third time.
local CLOSED <const> = WAITS .. [[
local function run(wait, who, kind)
  local n, close = 0, nil
  local function source()
    n = n + 1
    if n < 3 then return n end
    if who == "source" then close() end
    local _ <close> = setmetatable({}, { __close = function() print(wait, who, kind) end })
    waits[wait]()
    return n
  end
  local following, closing, _
  if kind == "imap" then
    following, _, _, closing = pool:imap(same, source, { inflight = 3 })
    close = function() closing:close() end
  else
    following, _, _, closing = chain:stream(source, { inflight = 3 })
    close = function() chain:close() end
  end
  local _ <close> = closing
  if who == "task" then
    fz.spawn(function()
      fz.sleep(0.02)
      close()
    end)
  end
  for i in following do
    if i == 2 and who == "loop" then break end
  end
end
local n = 0
for wait in pairs(waits) do
  for _, who in ipairs { "source", "task", "loop" } do
    for _, kind in ipairs { "imap", "stream" } do
      local ok, e
      if arg[1] == "task" then
        ok, e = pcall(fz.await, fz.spawn(run, wait, who, kind))
      else
        ok, e = pcall(run, wait, who, kind)
      end
      assert(ok == (kind == "imap" or who == "loop"), e)
      assert(ok or e.kind == "cancelled" and e.message == "the chain was closed")
      n = n + 1
    end
  end
end
fz.spawn(function() -- these events come too late for the sources that have waited for them
  pending:set_result(1)
  queue:put(1)
  print(n)
end)]]

tests["a loop that is left while its source waits ends, and so does the script"] = function()
  local script = t.file(CLOSED)
  for _, place in ipairs { "task", "script" } do
    local out, err, status = t.command(script, place)
    t.equal({ err, status, out:match "\n(%d+)\n$" }, { "", 0, "36" })
    local closed = 0 -- the number of sources that were closed
    for _ in out:gmatch "[a-z]+\t[a-z]+\t[a-z]+\n" do closed = closed + 1 end
    t.equal(closed, 36)
  end
end

-- A source raises an error after a wait. The error passes through the loop and its task.
local FAILING <const> = [[
local queue = fz.queue()
local function feed()
  fz.sleep(0.001)
  if arg[1] == "text" then error "no items" end
  queue:close()
  queue:put(1)
end
local function source() feed() return 1 end
local function loop()
  local pool <close> = fz.pool(1)
  for _ in pool:imap(print, source) do end
end
local task = fz.spawn(function() loop() end)
fz.with_timeout(60, function() task:await() end)]]

tests["the traceback of an error of the source has its frames, then those of the loop"] = function()
  local script = t.file(FAILING)
  for _, kind in ipairs { "text", "fz.Error" } do
    local _, err, status = t.command(script, kind)
    t.match(err, kind == "text" and ":4: no items\nstack traceback:\n\t[C]: in function 'error'"
      or "fzlua: the queue is closed\nstack traceback:\n\t[C]: in method 'put'")
    local lines = {}
    for line in err:gmatch ":(%d+): in " do lines[#lines + 1] = line end
    t.equal(table.concat(lines, " "), (kind == "text" and "4" or "6") .. " 8 11 13 14 14")
    t.equal(status, 1)
  end
end

-- A hook raises an error after n instructions, for each n: Ctrl-C does the same at any instruction.
local INTERRUPTED <const> = [[
local pool <close> = fz.pool(1)
local n, done, wrong = 0, false, 0
while not done do
  n = n + 1
  local _, e = pcall(function()
    debug.sethook(function() debug.sethook() error "interrupted" end, "", n)
    for _ in pool:imap(math.abs, { 1, 2 }) do end
    debug.sethook()
    done = true
  end)
  if not (done and e == nil or tostring(e):find "interrupted$") then
    wrong = wrong + 1
    print(e)
  end
end
print(n > 100, wrong)
os.exit(0)]]

tests["an interrupt at any step of a loop is raised as it is"] = function()
  local out = t.command(t.file(INTERRUPTED))
  t.equal(out, "true\t0\n")
end

return tests
