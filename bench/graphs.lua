--- graphs.lua - the DAG that the rows and all peers run.

local graphs = {}

---The DAG of README.md.
---@param n integer
---@return string[][] by node, from 1: the names of the nodes it needs, "n0", "n1", ...
function graphs.shared(n)
  local x, graph = 42, {}
  local function below(limit)
    x = (1664525 * x + 1013904223) & 0xffffffff
    return (x * limit) >> 32
  end
  for i = 0, n - 1 do
    local inputs, seen = {}, {}
    for _ = 1, math.min(below(4), i) do
      local j = below(i)
      if not seen[j] then inputs[#inputs + 1] = "n" .. j end
      seen[j] = true
    end
    graph[i + 1] = inputs
  end
  return graph
end

return graphs
