-- progress.lua: the progress of a map and of a loop, as lines below the output on a terminal.
--
--   fzlua examples/progress.lua
--   fzlua --quiet examples/progress.lua

local fz = require "fzlua"

-- The number of primes among the thousand numbers from `first` on.
local function count_primes(first)
  local count = 0
  for n = math.max(first, 2), first + 999 do
    local prime = true
    for d = 2, math.floor(math.sqrt(n)) do
      if n % d == 0 then
        prime = false
        break
      end
    end
    if prime then count = count + 1 end
  end
  if first % 50000 == 0 then print(("%d primes from %d on"):format(count, first)) end
  return count
end

local starts = {}
for i = 1, 200 do starts[i] = (i - 1) * 1000 end

-- The output of a worker appears above the progress line, in the order of that worker. So the
-- output of a single worker is the same each time.
local counts = fz.map(count_primes, starts, {progress = true, jobs = 1})

local sum, most = 0, 0
for count in fz.progress(counts, {label = "sum"}) do
  sum = sum + count
  most = math.max(most, count)
end
print(("%d primes below %d, at most %d in a thousand"):format(sum, 1000 * #starts, most))
