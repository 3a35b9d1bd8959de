-- sizes.lua: one function for each file of a list, and two that read all results.
--
--   fzlua examples/sizes.lua
--
-- `stage:map` spreads the list over the workers of its stage. Each call has retries and a timeout
-- of its own, so that a file that cannot be read does not stop the others.

local fz = require "fzlua"

local scan, report = fz.stage "scan", fz.stage "report"

-- Called once for each name; every call gets `folder`, too.
scan:map("words", {"files", "folder"}, function(name, folder)
  local file <close> = assert(io.open(folder .. name))
  local n = 0
  for _ in file:read("a"):gmatch "%a+" do n = n + 1 end
  return n
end, {retries = 1})

-- The results are a list in the order of the files; n is their number.
function report.total(words)
  local sum = 0
  for i = 1, words.n do sum = sum + words[i] end
  return sum
end

function report.longest(files, words)
  local place = 1
  for i = 2, words.n do
    if words[i] > words[place] then place = i end
  end
  return files[place]
end

local chain = scan >> report
local out = chain{
  files = {"spring.txt", "summer.txt", "autumn.txt", "winter.txt"},
  folder = "examples/data/seasons/",
}
for i, name in ipairs(out.files) do print(("%-10s %4d words"):format(name, out.words[i])) end
print(("%-10s %4d words, most in %s"):format("all", out.total, out.longest))
