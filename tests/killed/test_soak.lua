-- test_soak.lua - invariants of shared objects among eight processes with random sleeps, timeouts
-- and kills.
--
-- Each test takes half a second in `make check`, and FZLUA_SOAK seconds in `make soak`.

local t = ...

local tests = {}

local SECONDS <const> = tonumber(os.getenv "FZLUA_SOAK") or 0.5
local PROCESSES <const> = 8

local function nap(most)
  local until_s = fz.now() + math.random() * most
  if math.random(4) == 1 then
    fz.event():wait(until_s - fz.now())
  else
    while fz.now() < math.min(until_s, fz.now() + 1e-4) do end
  end
end

-- A short timeout, or none.
local function patience()
  return math.random(2) == 1 and math.random() / 500 or nil
end

-- Call work(number) again and again in each process. Processes for which may_kill(number) is true,
-- or all if it is nil, are killed at random moments, about `kills` a second, and started again. At
-- the end the event `stop` is set, and wake() is called until all processes have returned.
local function storm(work, options)
  options = options or {}
  local stop, procs, nkilled = fz.event(), {}, 0
  local function start(i)
    procs[i] = fz.process(function()
      math.randomseed(i, math.floor(fz.now() * 1e6))
      while not stop:is_set() do work(i, stop) end
    end):start()
  end
  for i = 1, PROCESSES do start(i) end
  local kills, deadline = options.kills or 50, fz.now() + SECONDS
  while fz.now() < deadline do
    stop:wait(kills > 0 and math.random() * 2 / kills or SECONDS)
    local i = math.random(PROCESSES)
    if kills > 0 and (not options.may_kill or options.may_kill(i)) then
      procs[i]:kill()
      assert(procs[i]:join(20))
      nkilled = nkilled + 1
      start(i)
    end
  end
  stop:set()
  local late = fz.now() + 20
  for i = 1, PROCESSES do
    while not procs[i]:join(0.01) do
      if options.wake then options.wake() end
      assert(fz.now() < late, "a process hangs")
    end
    t.equal(procs[i].exitcode, 0)
    procs[i]:close()
  end
  return nkilled
end

-- Accounts under a lock. If a process is killed within a transfer, the next process that acquires
-- the lock undoes the transfer by means of a journal.
local function bank(make)
  return function()
    local lock, accounts, journal = make(), fz.array("j", 16), fz.array("j", 4)
    accounts:fill(1000)
    local OPEN <const>, FROM <const>, TO <const>, AMOUNT <const> = 1, 2, 3, 4
    local inside = fz.value("i", 0)
    local function repair()
      if journal[OPEN] > 0 then
        accounts[journal[FROM]] = journal[AMOUNT] >> 32
        accounts[journal[TO]] = journal[AMOUNT] & 0xffffffff
      end
      journal[OPEN] = 0
      inside.value = 0
    end
    local function transfer()
      local got, how = lock:acquire(patience())
      if not got then return end
      if how == "abandoned" then repair() end
      assert(inside:add(1) == 1, "two are inside")
      local from, to = math.random(16), math.random(16)
      local amount = math.random(0, accounts[from])
      journal[FROM], journal[TO] = from, to
      journal[AMOUNT] = accounts[from] << 32 | accounts[to]
      journal[OPEN] = 1
      accounts[from] = accounts[from] - amount
      nap(1e-4)
      accounts[to] = accounts[to] + amount
      journal[OPEN] = 0
      inside:add(-1)
      lock:release()
    end
    storm(transfer)
    local _, how = lock:acquire(10)
    if how == "abandoned" then repair() end
    lock:release()
    local sum = 0
    for _, x in ipairs(accounts) do sum = sum + x end
    t.equal(sum, 16000)
  end
end

tests["money under a lock"] = bank(fz.lock)
tests["money under an rlock"] = bank(fz.rlock)

-- Items are numbers from a shared counter. said[i]: 1 before it is put, 2 when put has
-- returned; seen[i]: how often it was taken.
tests["a queue loses at most the item that a killed process handled, and none comes twice"] =
function()
  local N <const> = math.ceil(400000 * math.max(SECONDS, 1))
  local queue, next_item = fz.queue(64), fz.value("j", 0)
  local said, seen = fz.array("B", N), fz.array("B", N)
  local big = ("x"):rep(100000)
  local function put()
    local i = next_item:add(1)
    if i > N then return nap(1e-3) end
    said[i] = 1
    if queue:put(i % 100 == 0 and { i, big } or { i }, patience()) then said[i] = 2 end
    if math.random(100) == 1 then nap(1e-3) end
  end
  local function take(timeout)
    local item = queue:get(timeout)
    if not item then return false end
    local i = item[1]
    if item[2] then assert(item[2] == big) end
    seen[i] = seen[i] + 1
    return true
  end
  local killed = storm(function(i)
    if i % 2 == 0 then put() else take(patience() or 0.01) end
  end, { wake = function() take(0) end })
  repeat until not take(0.1)
  t.equal(queue:size(), 0)
  local lost = 0
  for i = 1, math.min(N, next_item.value) do
    assert(seen[i] <= 1, "an item came twice")
    if said[i] == 2 and seen[i] == 0 then lost = lost + 1 end
  end
  assert(lost <= killed, ("%d lost by %d kills"):format(lost, killed))
end

tests["a semaphore lets in no more than it has"] = function()
  local semaphore, inside = fz.semaphore(3), fz.value("i", 0)
  storm(function()
    if not semaphore:acquire(patience()) then return end
    local n = inside:add(1)
    assert(n >= 1 and n <= 3, "too many are inside")
    nap(1e-3)
    inside:add(-1)
    semaphore:release()
  end, { kills = 0 })
  for _ = 1, 3 do assert(semaphore:acquire(10)) end
  assert(not semaphore:acquire(0))
end

tests["an event wakes all, and killed waiters harm no other"] = function()
  local event, round = fz.event(), fz.value("j", 0)
  storm(function(i)
    if i == 1 then
      round:add(1)
      event:set()
      nap(1e-4)
      event:clear()
    else
      event:wait(patience() or 0.1)
    end
  end)
  assert(round.value > 1)
end

-- A shelf with room for four loaves: some processes add loaves, and others remove them.
tests["a condition loses no notification to the dead"] = function()
  local condition, loaves = fz.condition(), fz.value("j", 0)
  local ROOM <const> = 4
  local function change(by)
    if not condition:acquire(patience()) then return end
    local function may() return loaves.value + by >= 0 and loaves.value + by <= ROOM end
    if condition:wait_for(may, patience() or 1) then
      loaves.value = loaves.value + by
      condition:notify(math.random(2))
    end
    assert(loaves.value >= 0 and loaves.value <= ROOM, "it is not what it was waited for")
    condition:release()
  end
  storm(function(i) change(i % 2 == 0 and 1 or -1) end,
    { wake = function() condition:with(function() condition:notify_all() end) end })
end

tests["a barrier is passed by all or by none"] = function()
  local barrier = fz.barrier(PROCESSES)
  local rounds = fz.array("j", PROCESSES)
  local passed, broken = fz.value("j", 0), fz.value("j", 0)
  storm(function(i)
    local ok, index, why = pcall(barrier.wait, barrier, math.random(20) == 1 and 1e-3 or 1)
    if ok and index then
      assert(index >= 0 and index < PROCESSES)
      rounds[i] = rounds[i] + 1
      passed:add(1)
    else
      t.equal(why or index.kind, ok and "timeout" or "error")
      broken:add(1)
      nap(1e-3)
      barrier:reset()
    end
  end, { kills = 10, wake = function() barrier:abort() end })
  barrier:reset()
  assert(passed.value + broken.value > 0)
end

tests["a value counts what was added"] = function()
  local value, done, begun = fz.value("j", 0), fz.array("j", PROCESSES), fz.array("j", PROCESSES)
  storm(function(i)
    begun[i] = begun[i] + 1
    if math.random(10) == 1 then
      value:with(function(v) v.value = v.value + 1 end)
    else
      value:add(1)
    end
    done[i] = done[i] + 1
  end, { kills = 20 })
  local least, most = 0, 0
  for i = 1, PROCESSES do least, most = least + done[i], most + begun[i] end
  assert(least <= value.value and value.value <= most,
    ("%d is not between %d and %d"):format(value.value, least, most))
end

tests["a pipe says when the other side has died"] = function()
  local deadline = fz.now() + SECONDS
  repeat
    local a, b = fz.pipe()
    local p = fz.process(function()
      while true do
        local ball = b:recv()
        if not ball then return end
        b:send(ball + 1)
      end
    end):start()
    for i = 1, math.random(50) do
      a:send(i)
      t.equal(a:recv(10), i + 1)
    end
    a:send(1)
    p:kill()
    local what, why
    repeat what, why = a:recv(10) until not what
    t.equal(why, "closed")
    assert(p:join(10))
    p:close()
  until fz.now() > deadline
end

tests["a manager counts what was asked for"] = function()
  local manager <close> = fz.manager()
  local d = manager:dict { n = 0 }
  local done, begun = fz.array("j", PROCESSES), fz.array("j", PROCESSES)
  storm(function(i)
    begun[i] = begun[i] + 1
    d:incr "n"
    done[i] = done[i] + 1
  end, { kills = 20 })
  local least, most = 0, 0
  for i = 1, PROCESSES do least, most = least + done[i], most + begun[i] end
  assert(least <= d.n and d.n <= most, ("%d is not between %d and %d"):format(d.n, least, most))
end

return tests
