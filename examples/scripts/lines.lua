-- lines.lua FILE: how many lines it has, and the longest of them.
local file, why = io.open(arg[1])
if not file then
  io.stderr:write(why, "\n")
  os.exit(1)
end
local count, longest, place = 0, -1, 0
for line in file:lines() do
  count = count + 1
  if #line > longest then longest, place = #line, count end
end
print(("%d lines, the longest is line %d with %d bytes"):format(count, place, longest))
