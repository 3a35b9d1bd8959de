-- histogram.lua: how often each letter is in some files, counted by one process per file.
--
--   fzlua examples/histogram.lua            the texts in examples/data/seasons
--   fzlua examples/histogram.lua FILE...
--
-- Shows fz.array: numbers in memory that all processes share. Each process counts the letters of
-- its file in a table and adds them to the array at its end, so that the processes hardly ever
-- wait.

local fz = require "fzlua"

local BAR <const> = 50

local here = arg[0]:match("^(.-)[^/]*$")
local files = {table.unpack(arg)}
if #files == 0 then
  for i, season in ipairs{"spring", "summer", "autumn", "winter"} do
    files[i] = ("%sdata/seasons/%s.txt"):format(here, season)
  end
end

local letters = fz.array("l", 26)

local function count(path)
  local file <close> = assert(io.open(path, "rb"))
  local own = {}
  for letter in file:read("a"):lower():gmatch("%l") do
    local i = letter:byte() - ("a"):byte() + 1
    own[i] = (own[i] or 0) + 1
  end
  letters:with(function()
    for i, n in pairs(own) do letters[i] = letters[i] + n end
  end)
end

local readers = {}
for i, path in ipairs(files) do readers[i] = fz.process(count, path):start() end
for _, reader in ipairs(readers) do reader:result() end

local most, total = 1, 0
for _, n in ipairs(letters) do
  most, total = math.max(most, n), total + n
end
print(("%d letters in %d files"):format(total, #files))
for i, n in ipairs(letters) do
  local bar = ("#"):rep((n * BAR + most - 1) // most)
  print((("%c %4d %s"):format(("a"):byte() + i - 1, n, bar):gsub(" $", "")))
end
