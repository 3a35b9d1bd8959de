-- async.lua: tasks, which are functions that take turns in one process, and what they can wait for.
--
--   fzlua examples/async.lua

local fz = require "fzlua"

local function nap(seconds, name)
  fz.sleep(seconds)
  return name
end

-- gather: the results are in the order of the arguments; the tasks sleep at the same time.
local start = fz.now()
print("gather", fz.gather(fz.spawn(nap, 0.2, "long"), fz.spawn(nap, 0.1, "short")))
print("overlapped", fz.now() - start >= 0.2)

-- as_completed: futures in the order in which they are done.
for future in fz.as_completed { fz.spawn(nap, 0.2, "slow"), fz.spawn(nap, 0.02, "quick") } do
  print("completed", future:await())
end

-- A future that one task sets wakes the tasks that await it.
local ready = fz.future()
local runners = {}
for i = 1, 3 do
  runners[i] = fz.spawn(function() return ("runner %d saw %s"):format(i, ready:await()) end)
end
fz.spawn(function() ready:set_result "the flag" end)
for _, line in ipairs(fz.await(runners)) do print(line) end

-- with_timeout: a function that takes too long is ended, and its variables are closed.
print("timeout", fz.with_timeout(0.05, function()
  local _ <close> = setmetatable({}, { __close = function() print "closed in time" end })
  fz.sleep(60)
end))

-- A group ends its tasks together: an error in one cancels the others.
local ok, e = pcall(fz.group, function(g)
  g:spawn(function()
    local _ <close> = setmetatable({}, { __close = function() print "a sibling is cancelled" end })
    fz.sleep(60)
  end)
  g:spawn(function()
    fz.sleep(0.02)
    error("one of the group fails", 0)
  end)
end)
print("group", ok, e)

-- Workers, other programs and tasks are awaited together.
local pool <close> = fz.pool(2)
local square = pool:apply_async(function(x) return x * x end, { 12 })
local echo = fz.spawn(function() return fz.exec({ "echo", "a program" }).stdout:match "[^\n]*" end)
local sum = fz.spawn(function()
  local n = 0
  for _, x in pool:imap(function(x) return 2 * x end, { 1, 2, 3 }) do n = n + x end
  return n
end)
print("together", fz.gather(square, echo, sum))

-- Tasks pass items through a queue of one place, and a generator in a task may wait.
local queue = fz.queue(1)
local producer = fz.spawn(function()
  for word in ("tasks take turns"):gmatch "%a+" do queue:put(word) end
  queue:close()
end)
local consumer = fz.spawn(function()
  local words = coroutine.wrap(function()
    for word in function() return queue:get() end do coroutine.yield(word) end
  end)
  local upper = {}
  for word in words do upper[#upper + 1] = word:upper() end
  return table.concat(upper, " ")
end)
print(fz.await { producer, consumer }[2])
