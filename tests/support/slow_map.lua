-- slow_map.lua - a map whose items take some time, so that its progress is drawn. Some of its calls
-- print a line.
return [[
  local list = {}
  for i = 1, 40 do list[i] = i end
  fz.map(function(x)
    local stop = fz.now() + 0.02
    while fz.now() < stop do end
    if x % 10 == 0 then print("line", x) end
    return x
  end, list, {progress = true, jobs = 2})
]]
