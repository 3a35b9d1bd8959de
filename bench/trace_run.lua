-- The work that the rows of trace.lua measure: trace_run.lua dag|work|map
package.path = arg[0]:match "^(.-)[^/]*$" .. "?.lua;" .. package.path
local graphs = require "graphs"

local MOD <const> = 1000000007

-- Work for about 20 us.
local function work()
  local x = 1
  for i = 1, 2500 do x = (x * 31 + i) & 0xffffff end
  return x
end

local function invoke_dag(works)
  local dag = fz.dag()
  local function add(a, b, c) return ((a or 0) + (b or 0) + (c or 0) + 1) % MOD end
  local function slow_add(a, b, c)
    work()
    return add(a, b, c)
  end
  for i, inputs in ipairs(graphs.shared(10000)) do
    dag:add("n" .. i - 1, inputs, works and slow_add or add)
  end
  dag:invoke({}, { jobs = 2 })
end

local RUNS <const> = {
  dag = function() invoke_dag(false) end,
  work = function() invoke_dag(true) end,
  map = function()
    local list = {}
    for i = 1, 1000000 do list[i] = i end
    fz.map(function(x) return x * x end, list, { jobs = 2 })
  end,
}

RUNS[arg[1]]()
