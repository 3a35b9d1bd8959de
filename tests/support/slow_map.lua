-- slow_map.lua - a map whose items take a moment, so that it is drawn, and that prints a line now
-- and then.
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
