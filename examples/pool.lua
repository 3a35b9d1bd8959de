-- pool.lua: everything a pool can do, once.
--
--   fzlua examples/pool.lua
--
-- The work is the Collatz sequence: halve an even number, triple an odd one and add one, and count
-- how long it takes until 1. Nobody knows whether it always gets there.

local fz = require "fzlua"

local function steps(n)
  if n < 1 then error("not a positive number: " .. n) end
  local count = 0
  while n ~= 1 do
    n = n % 2 == 0 and n // 2 or 3 * n + 1
    count = count + 1
  end
  return count
end

local function total(from, to)
  local sum = 0
  for n = from, to do sum = sum + steps(n) end
  return sum
end

local function list_text(list)
  local words = {}
  for i = 1, list.n or #list do words[i] = tostring(list[i]) end
  return table.concat(words, " ")
end

-- All numbers from n on, one by one: far too many for a list.
local function from(n)
  return function()
    n = n + 1
    return n - 1
  end
end

local pool <close> = fz.pool(2)
print("workers:", #pool.workers)

print("\n-- one call")
print("apply:", pool:apply(steps, 27))
print("several results:", pool:apply(math.modf, 3.25))

local result = pool:apply_async(steps, {97}, {
  callback = function(count) print("callback:", count) end,
})
print("wait:", result:wait())
print("ready, successful:", result:ready(), result:successful())
print("get:", result:get())

print("\n-- a list")
print("map:", list_text(pool:map(steps, {1, 2, 3, 4, 5, 6, 7})))
print("starmap:", list_text(pool:starmap(total, {{1, 10}, {11, 20}, {21, 30}})))
local later = pool:map_async(steps, {9, 10, 11})
local also = pool:starmap_async(total, {{1, 100}, {101, 200}})
print("map_async:", list_text(later:get()))
print("starmap_async:", list_text(also:get()))

print("\n-- a stream: as far ahead of the loop as inflight says, and no further")
for i, count in pool:imap(steps, from(1), {inflight = 4}) do
  if count > 100 then
    print("imap:", i .. " is the first number that takes more than 100 steps")
    break
  end
end
local sum = 0
for _, count in pool:imap_unordered(steps, {1, 2, 3, 4, 5, 6, 7}) do sum = sum + count end
print("imap_unordered:", "7 numbers take " .. sum .. " steps together")

print("\n-- what goes wrong")
local ok, failure = pcall(pool.apply, pool, steps, -1)
print("an error:", ok, failure.kind)
local results = pool:map(steps, {3, 0, 5}, {on_error = "continue"})
print("one of three:", list_text(results), results.errors[2].kind)
ok, failure = pcall(pool.apply, pool, os.exit, 3)
print("a dead worker:", ok, failure.kind, failure.exitcode)
ok, failure = pcall(function()
  return pool:apply_async(function() while true do end end, {}, {timeout = 0.1}):get()
end)
print("a hanging one:", ok, failure.kind)
result = pool:apply_async(function() while true do end end)
print("not yet:", result:get(0.05))
print("cancel:", result:cancel())
result = pool:apply_async(steps, {0}, {
  error_callback = function(e) print("error_callback:", e.kind) end,
})
result:wait()
print("successful:", result:successful())
print("and on it goes:", pool:apply(steps, 27))

print("\n-- the end")
pool:close()
ok, failure = pcall(pool.apply, pool, steps, 27)
print("closed:", ok, failure.kind)
print("join:", pool:join())

local other = fz.pool{workers = 2, init = function() math.randomseed(1) end, max_tasks = 100}
other:apply_async(function() while true do end end)
other:terminate()
print("terminate:", #other.workers .. " workers left")
