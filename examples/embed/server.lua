-- server.lua - the chain of server.c: counts the words of a line.
local split, count, show = fz.stage "split", fz.stage "count", fz.stage "show"

split:register("words", "line", function(line)
  local words = {}
  for word in line:gmatch "%a+" do words[#words + 1] = word:lower() end
  return words
end)

count:register("counts", "words", function(words)
  local counts = {}
  for _, word in ipairs(words) do counts[word] = (counts[word] or 0) + 1 end
  return counts
end)

show:register("answer", "counts", function(counts)
  local list = {}
  for word, n in pairs(counts) do list[#list + 1] = word .. "=" .. n end
  table.sort(list)
  return table.concat(list, " ")
end)

local jobs = tonumber(_G.jobs) -- set by server.c
return fz.chain({ split, count, show }, { jobs = jobs, retries = 3, outputs = { "answer" } })
