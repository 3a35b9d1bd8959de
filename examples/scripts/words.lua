-- words.lua FILE N: its N most frequent words, and how often each occurs.
local file <close> = assert(io.open(arg[1]))
local counts, words = {}, {}
for word in file:read("a"):gmatch("%a+") do
  if not counts[word] then
    counts[word] = 0
    words[#words + 1] = word
  end
  counts[word] = counts[word] + 1
end
table.sort(words, function(a, b)
  return counts[a] > counts[b] or counts[a] == counts[b] and a < b
end)
for i = 1, math.min(tonumber(arg[2]), #words) do
  print(("%4d %s"):format(counts[words[i]], words[i]))
end
