-- wordcount.lua: the most frequent words of a folder's files, each file counted by a worker.
--
--   fzlua examples/wordcount.lua                   the texts in examples/data/seasons
--   fzlua examples/wordcount.lua . md lua          files below this folder with these endings
--
-- Shows fz.map: the workers inherit the list of files when they are forked, and return a table of
-- counts for each file, which is much smaller than the file.

local fz = require "fzlua"

local TOP <const> = 10

local here = arg[0]:match("^(.-)[^/]*$")
local folder = arg[1] or here .. "data/seasons"
local endings = arg[2] and table.move(arg, 2, #arg, 1, {}) or {"txt"}

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Paths of the files below a folder with one of the endings, in order of their names.
local function files_below(path)
  local tests = {}
  for i, ending in ipairs(endings) do tests[i] = "-name " .. quote("*." .. ending) end
  local find <close> = assert(io.popen(("find %s -type f '(' %s ')' -print0"):format(quote(path),
    table.concat(tests, " -o "))))
  local files = {}
  for name in find:read("a"):gmatch("%Z+") do files[#files + 1] = name end
  table.sort(files)
  return files
end

-- The number of times that each word of four letters or more is in the file.
local function count_words(path)
  local file <close> = assert(io.open(path, "rb"))
  local counts = {}
  for line in file:lines() do
    for word in line:lower():gmatch("%a%a%a%a+") do counts[word] = (counts[word] or 0) + 1 end
  end
  return counts
end

local files = files_below(folder)
local totals, words = {}, {}
for _, counts in ipairs(fz.map(count_words, files)) do
  for word, count in pairs(counts) do
    if not totals[word] then words[#words + 1] = word end
    totals[word] = (totals[word] or 0) + count
  end
end

-- Words that are equally frequent are in the order of their letters, because the order of pairs()
-- differs from run to run.
table.sort(words, function(a, b)
  if totals[a] ~= totals[b] then return totals[a] > totals[b] end
  return a < b
end)

print(("%d files, %d different words"):format(#files, #words))
for i = 1, math.min(TOP, #words) do print(("%6d  %s"):format(totals[words[i]], words[i])) end
