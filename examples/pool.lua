-- pool.lua: each method of a pool, once.
--
--   fzlua examples/pool.lua
--
-- The work is the Collatz sequence: halve an even number, triple an odd one and add one, and count
-- the steps until 1. Whether every number reaches 1 is not known.

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
local forked = #pool.workers > 0 -- false with fzlua -j0, which runs everything in this process
print("-- one call")
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

print("\n-- an iterator: at most inflight items are read ahead of the loop")
for i, count in pool:imap(steps, from(1), {inflight = 4}) do
  if count > 100 then
    print("imap:", i .. " is the first number that takes more than 100 steps")
    break
  end
end
local sum = 0
for _, count in pool:imap_unordered(steps, {1, 2, 3, 4, 5, 6, 7}) do sum = sum + count end
print("imap_unordered:", "7 numbers take " .. sum .. " steps together")

print("\n-- errors")
local ok, failure = pcall(pool.apply, pool, steps, -1)
print("an error:", ok, failure.kind)
local results = pool:map(steps, {3, 0, 5}, {on_error = "continue"})
print("one item fails:", list_text(results), results.errors[2].kind)
local function hang() while true do end end
result = pool:apply_async(hang, {}, {timeout = 0.1})
ok, failure = pcall(result.get, result)
print("a call that hangs:", ok, failure.kind)
result = pool:apply_async(hang)
print("cancel:", result:cancel())
ok, failure = pcall(result.get, result)
print("a cancelled call:", ok, failure.kind)
result = pool:apply_async(steps, {0}, {
  error_callback = function(e) print("error_callback:", e.kind) end,
})
print("wait, successful:", result:wait(), result:successful())
if forked then
  ok, failure = pcall(pool.apply, pool, os.exit, 3)
  io.stderr:write(("a worker that leaves: %s %s\n"):format(ok, failure.message))
end
print("the pool goes on:", pool:apply(steps, 27))

print("\n-- the end")
pool:close()
ok, failure = pcall(pool.apply, pool, steps, 27)
print("after close:", ok, failure.kind)
print("join:", pool:join())

-- `init` runs once in each worker, so that its calls need not repeat slow work. A worker ends after
-- max_tasks calls.
local known
local function make_known()
  known = {}
  for n = 1, 1000 do known[n] = steps(n) end
end
local other = fz.pool{workers = 2, init = make_known, max_tasks = 100}
print("init:", other:apply(function(n) return known[n] end, 871))
other:apply_async(hang)
other:terminate()
print("terminate:", #other.workers .. " workers left")
