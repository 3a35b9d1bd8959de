-- test_deadlock.lua - waits that nothing can end are named, and no others, also if pools have idle
-- workers.

local t = ...

local tests = {}

-- The source has three items, and then waits. All workers are idle then.
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

-- What puts an item into the queue a while later.
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
  "fz.spawn(function() fz.wait_fd(0, 'r') queue:put(1) end)", -- standard input
  [[pool:apply_async(function() error "no" end, {}, { retries = 1, backoff = 0.2,
      error_callback = function() queue:put(1) end })]],
  [[pool:apply_async(function() while true do end end, {}, { timeout = 0.2,
      error_callback = function() queue:put(1) end })]],
}

-- What only a worker does.
local WORKER_WAKES <const> = {
  [[idle = fz.pool { workers = 1, idle = 0.2, exit = function() queue:put(1) end }
    idle:apply(same, 1)]],
}

local WAITS <const> = {
  "queue:get()",
  "fz.spawn(function() queue:get() end):await()",
  "for i in pool:imap(same, source) do if i == 4 then break end end",
  "fz.spawn(function() for i in chain:stream(source) do if i == 4 then break end end end)",
}

local function are_not_named(jobs, wakes)
  for i, wake in ipairs(wakes) do
    for _, wait in ipairs(WAITS) do
      local _, err, status = t.shell(('(sleep 0.2; echo) | "$FZLUA" %s %s'):format(
        jobs, t.file(COMMON .. wake .. " " .. wait)))
      t.equal({ i, wait, err, status }, { i, wait, "", 0 })
    end
  end
end

tests["a wait that anything can end is not named"] = function()
  are_not_named("-j2", WAKES)
  are_not_named("-j2", WORKER_WAKES)
end

tests["a wait that functions in this process can end is not named"] = function()
  are_not_named("-j0", WAKES)
end

return tests
