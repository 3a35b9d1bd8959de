-- test_deadlock.lua - a wait that nothing can end is an error, even if pools have idle workers; no
-- other wait is an error.

local t = ...

local tests = {}

-- The source returns three items, and then waits. All workers are idle during this wait.
local COMMON <const> = [[
local queue, pool = fz.queue(), fz.pool()
local stage = fz.stage "only"
stage:register("y", "x", function(x) return x end)
local chain = fz.chain { stage }
local function same(x) return x end
local n = 0
local function source()
  n = n + 1
  if n > 3 then return queue:get() end
  return n
end
pool:map(same, { 1, 2, 3 })
]]

local NAMED <const> = {
  ["the next result of a loop"] = {
    "for _ in pool:imap(same, source) do end",
    "for _ in pool:imap_unordered(same, source, { progress = true }) do end",
    "for _ in chain:stream(source) do end",
    "pool:fold(math.max, source, 0, math.max)",
    "for _ in pool:imap(same, function() fz.future():await() end) do end",
    "local it it = pool:imap(same, function() return it() end, { inflight = 1 }) it()",
  },
  ["fzlua.Task (pending)"] = {
    "fz.spawn(function() for _ in chain:stream(source) do end end):await()",
  },
  ["the end of all tasks"] = {
    "fz.spawn(function() for _ in pool:imap(same, source) do end end)",
  },
  ["fzlua.Future (pending)"] = {
    "fz.future():await()",
    "local r = fz.future() pool:apply_async(same, { 1 }, { callback = print }) r:await()",
  },
}

-- Waits in C; most of these scripts have no task.
local NAMED_SHARED <const> = {
  ["an item of a queue or pipe"] = {
    "queue:get()",
    "local a, b = fz.pipe() a:recv()",
    "fz.queue(2):get()",
    "local q = fz.queue() q:put(1) q:get() pcall(q.get, q) q:get()",
    "local p = fz.process(same, 1):start() p:join() queue:get()",
    "pool:map(same, { 1, 2 }) queue:get()",
    "pool:apply(function() fz.exec { 'true' } end) queue:get()",
    "fz.exec { 'true' } queue:get()",
    "io.popen('true'):close() queue:get()",
    "fz.spawn(function() queue:get() end) fz.queue():get()",
    "table.sort({ 1, 2 }, function() queue:get() end)",
    "fz.spawn(function() table.sort({ 1, 2 }, function() queue:get() end) end):await()",
  },
  ["room in a queue or pipe"] = { "local q = fz.queue(1) q:put(1) q:put(2)" },
  ["the end of all items of a queue"] = { "queue:put(1) queue:join()" },
  ["a condition"] = {
    "local c = fz.condition() c:acquire() c:wait()",
    "local c = fz.condition() c:acquire() c:wait_for(function() end)",
  },
  ["an event"] = { "fz.event():wait()" },
  ["a semaphore"] = { "local s = fz.semaphore(1) s:acquire() s:acquire()" },
  ["a barrier"] = { "fz.barrier(2):wait()" },
  ["a lock"] = {
    "local l = fz.lock() fz.spawn(function() l:acquire() queue:get() end) fz.sleep(0) l:acquire()",
  },
}

tests["a wait for a shared object that no other process has is named"] = function()
  for what, codes in pairs(NAMED_SHARED) do
    for _, code in ipairs(codes) do
      for _, jobs in ipairs { "-j2", "-j0" } do
        local _, err, status = t.command(jobs, "-e", COMMON .. code)
        t.match(err, "deadlock: nothing can end the wait for " .. what)
        t.equal(status, 1)
      end
    end
  end
end

tests["a deadlock of a function with jobs = 0 is the error of its item"] = function()
  local _, err = t.command("-j0", "-e", COMMON .. "pool:map(function() queue:get() end, { 1 })")
  t.match(err, "item 1, attempt 1: deadlock: nothing can end the wait for an item of a queue")
end

tests["a wait goes on after a deadlock that was caught"] = function()
  local out, err = t.command("-e", COMMON .. [[
    for i = 1, 3 do
      local ok, e = pcall(queue.get, queue)
      assert(not ok and tostring(e):find "deadlock", e)
      fz.process(function() queue:put(i) end):start():join()
      io.write(queue:get(), " ")
      local p <close> = fz.process(function() os.execute "sleep 0.2" queue:put(-i) end):start()
      io.write(queue:get(), " ")
    end]])
  t.equal({ out, err }, { "1 -1 2 -2 3 -3 ", "" })
end

tests["a process names the deadlock of a queue of its own"] = function()
  local _, err = t.command("-e", [[
    fz.process(function() local q = fz.queue() q:get() end):start():result()]])
  t.match(err, "deadlock: nothing can end the wait for an item of a queue or pipe")
end

-- A manager, whose server waits for questions, prevents none of these errors.
local MANAGER <const> = [[
local queue, manager = fz.queue(), fz.manager()
local dict = manager:dict { x = 1 }
dict.x = dict.x + 1
]]

local NAMED_MANAGER <const> = {
  ["an item of a queue or pipe"] = { "queue:get()", "manager:close() queue:get()" },
  ["fzlua.Future (pending)"] = { "fz.future():await()" },
  ["fzlua.Task (pending)"] = { "fz.spawn(function() queue:get() end):await()" },
  ["the end of all tasks"] = { "fz.spawn(function() queue:get() end)" },
}

tests["the server of a manager ends no wait by itself"] = function()
  for what, codes in pairs(NAMED_MANAGER) do
    for _, code in ipairs(codes) do
      local _, err, status = t.command("-e", MANAGER .. code)
      t.match(err, "deadlock: nothing can end the wait for " .. what)
      t.equal(status, 1)
    end
  end
end

-- The server of a manager still works on a question, although this process no longer waits for the
-- answer, or the server has started work of its own.
local SERVER_WAKES <const> = {
  [[fz.with_timeout(0.05, function()
      dict:update("x", function() os.execute "sleep 0.4" queue:put(1) end)
    end)]],
  "dict:update('x', function() fz.spawn(function() fz.sleep(0.3) queue:put(1) end) end)",
  [[dict:update('x', function()
      fz.process(function() os.execute "sleep 0.3" queue:put(1) end):start()
    end)]],
  [[local pool = fz.pool(1)
    pool:apply_async(function()
      while dict.y ~= 2 do os.execute "sleep 0.01" end
      queue:put(1)
    end)
    fz.spawn(function() fz.sleep(0.3) dict.y = 2 end)]],
}

tests["the server of a manager may end a wait for a question"] = function()
  for i, wake in ipairs(SERVER_WAKES) do
    for _, wait in ipairs {
      "queue:get()", "fz.spawn(function() queue:get() end):await()",
    } do
      local _, err, status = t.command("-e", MANAGER .. wake .. " " .. wait)
      t.equal({ i, wait, err, status }, { i, wait, "", 0 })
    end
  end
end

local function are_named(jobs)
  for what, codes in pairs(NAMED) do
    for _, code in ipairs(codes) do
      local _, err, status = t.command(jobs, "-e", COMMON .. code)
      t.match(err, "deadlock: nothing can end the wait for " .. what)
      t.equal(status, 1)
    end
  end
end

tests["a wait that nothing can end is named, beside idle workers"] = function()
  are_named "-j2"
end

tests["a wait that nothing can end is named, if functions run in this process"] = function()
  are_named "-j0"
end

-- Each of these scripts puts an item into the queue after some time.
local WAKES <const> = {
  "pool:apply_async(function() os.execute 'sleep 0.2' queue:put(1) end)",
  [[pool:apply(function()
      fz.process(function() os.execute 'sleep 0.2' queue:put(1) end):start()
    end)]],
  [[pool:apply(function()
      fz.process(function()
        fz.process(function() os.execute 'sleep 0.2' queue:put(1) end):start()
      end):start()
    end)]],
  "p = fz.process(function() os.execute 'sleep 0.2' queue:put(1) end):start()",
  "fz.spawn(function() fz.sleep(0.2) queue:put(1) end)",
  "fz.spawn(function() fz.exec { 'sleep', '0.2' } queue:put(1) end)",
  "fz.spawn(function() fz.wait_fd(0, 'r') queue:put(1) end)", -- standard input may become readable
  [[pool:apply_async(function() error "no" end, {}, { retries = 1, backoff = 0.2,
      error_callback = function() queue:put(1) end })]],
  [[pool:apply_async(function() while true do end end, {}, { timeout = 0.2,
      error_callback = function() queue:put(1) end })]],
  -- The process gets a handle of the queue after its start.
  [[local a, b = fz.pipe()
    p = fz.process(function() local q = b:recv() os.execute 'sleep 0.2' q:put(1) end):start()
    a:send(queue)]],
  -- A stopped process puts the item after it was continued.
  [==[p = fz.process(function() os.execute 'kill -STOP $PPID' queue:put(1) end):start()
    os.execute((([=[(until ! grep -q '^State:.[^TZ]' /proc/PID/status; do sleep 0.01; done
      sleep 0.3; kill -CONT PID) 2>/dev/null &]=]):gsub('PID', p.pid)))]==],
  -- A debug hook puts the item.
  [[local sleeping = fz.now() + 0.2
    debug.sethook(function()
      if fz.now() > sleeping then debug.sethook() queue:try_put(1) end
    end, '', 1)]],
}

-- The `exit` of a worker puts an item into the queue.
local WORKER_WAKES <const> = {
  [[closed = fz.pool { workers = 1, exit = function() os.execute 'sleep 0.2' queue:put(1) end }
    closed:apply(same, 1)
    closed:close()]],
  [[idle = fz.pool { workers = 1, idle = 0.2, exit = function() queue:put(1) end }
    idle:apply(same, 1)]],
}

local WAITS <const> = {
  "queue:get()",
  "fz.spawn(function() queue:get() end):await()",
  "for i in pool:imap(same, source) do if i == 4 then break end end",
  "fz.spawn(function() for i in chain:stream(source) do if i == 4 then break end end end)",
}

-- Run the program with all waits at once. Returns the output and the status of each run.
local function run_all(jobs, wake)
  local commands, errors = {}, {}
  for i, wait in ipairs(WAITS) do
    errors[i] = t.file ""
    commands[i] = ('((sleep 0.2; echo) | "$FZLUA" %s %s >%s 2>&1; echo $? >>%s) &'):format(
      jobs, t.file(COMMON .. wake .. " " .. wait), errors[i], errors[i])
  end
  t.shell(table.concat(commands, "\n") .. "\nwait")
  local said = {}
  for i, path in ipairs(errors) do said[i] = io.open(path):read "a" end
  return said
end

local function are_not_named(jobs, wakes)
  for i, wake in ipairs(wakes) do
    t.equal({ i, run_all(jobs, wake) }, { i, { "0\n", "0\n", "0\n", "0\n" } })
  end
end

tests["a wait that anything can end is not named"] = function()
  are_not_named("-j2", WAKES)
  are_not_named("-j2", WORKER_WAKES)
end

tests["a wait that functions in this process can end is not named"] = function()
  are_not_named("-j0", WAKES)
end

-- Run a program, which must succeed: a deadlock would be an error. Returns its output.
local function output(...)
  local out, err, status = t.command(...)
  t.equal({ err, status }, { "", 0 })
  return out
end

-- The parent of a spawned worker is a member of the shared heap, although it has no handle.
tests["a wait of a worker is named, one and two levels deep, however it has started"] = function()
  local deep = [[
    local start = %q
    local function wait() return fz.queue():get() end
    local function below(f)
      return function() return fz.map(f, { 1 }, { jobs = 2, start = start }) end
    end
    %s()]]
  for _, start in ipairs { "fork", "spawn" } do
    for _, f in ipairs { "below(wait)", "below(below(wait))",
      "below(function() below(math.abs)() wait() end)" } do
      local _, err, status = t.command("-e", deep:format(start, f))
      t.match(err, "deadlock: nothing can end the wait for an item of a queue or pipe")
      t.equal(status, 1)
    end
  end
end

tests["a wait with a timeout is no deadlock"] = function()
  t.equal(output("-e", [[
    print(fz.queue():get(0.3))
    print(fz.event():wait(0.3))
    print(fz.spawn(function() return fz.queue():get(0.3) end):await())]]),
    ("nil\ttimeout\n"):rep(3))
end

tests["a spawned process may have a handle"] = function()
  t.equal(output("-e", [[
    local q = fz.queue()
    local p <close> = fz.process(function() os.execute "sleep 0.3" q:put(1) end):start()
    print(q:get())]]), "1\n")
end

-- The parent becomes a member of the shared heap only when it puts an item.
tests["the parent may have what a worker has returned"] = function()
  t.equal(output("-j1", "-e", [[
    local pool = fz.pool(1)
    local q = pool:apply(function() kept = fz.queue() return kept end)
    local result = pool:apply_async(function() return kept:get() end)
    os.execute "sleep 0.5"
    q:put(7)
    print(result:get())]]), "7\n")
end

return tests
