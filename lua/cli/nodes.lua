--- nodes.lua - fzlua --nodes: the table of the machines of an engine.
--
-- Each row shows what a call on that machine returned, or why no worker starts there. A node at a
-- NATS server is not called, because it has announced these facts.

local Error = require "fzlua.error"
local Pool = require "fzlua.pool"
local core = require "fzlua.core"
local defaults = require "fzlua.defaults"
local messages = require "fzlua.messages"

local nodes = {}

local cpu_count = core.cpu_count -- sent by its name, which nodes with --allow know

-- Runs on the node: returns the number of processors, and the load of the last minute.
local function describe()
  local file <close> = io.open "/proc/loadavg"
  return cpu_count(), file and file:read "n" or "-"
end

-- Start to ask a node. Returns a function that waits for the answer, and returns the node's row.
local function ask(node)
  if node.state then
    return function()
      return { node.name, node.slots, node.processors, node.load, node.state,
        failed = node.state ~= "ready" }
    end
  end
  local scheme = defaults.engine:match "^.-://"
  local pool = Pool.new { workers = 1, engine = scheme .. node.name }
  local answer = pool:apply_async(describe)
  return function()
    local ok, processors, load = pcall(answer.get, answer)
    pool:close()
    if ok then return { node.name, node.slots, processors, load, "ready" } end
    if not Error.is(processors) or processors.kind == "interrupted" then error(processors, 0) end
    return { node.name, node.slots, "-", "-", processors.message, failed = true }
  end
end

-- Pad a column to the width of its widest text. string.format() is not used, because its widths
-- have at most two digits.
local function align(rows, column)
  local width = 0
  for _, row in ipairs(rows) do
    row[column] = tostring(row[column])
    width = math.max(width, #row[column])
  end
  for _, row in ipairs(rows) do row[column] = row[column] .. (" "):rep(width - #row[column]) end
end

local function print_rows(rows)
  for column = 1, 4 do align(rows, column) end
  for _, row in ipairs(rows) do io.write(table.concat(row, "  "), "\n") end
end

-- Sort by name the nodes that have announced themselves. Nodes of a URL keep the order of the URL.
local function sort(list)
  if list[1] and list[1].state then
    table.sort(list, function(a, b) return a.name < b.name end)
  end
end

---Print the table.
---@return integer status 1 if no worker starts on at least one of the nodes
function nodes.run()
  local list = core.nodes(defaults.engine)
  if not list then messages.misuse "--nodes needs --engine URL" end
  local rows, status = { { "node", "slots", "processors", "load", "state" } }, messages.OK
  sort(list)
  local asked = {}
  for i, node in ipairs(list) do asked[i] = ask(node) end
  for i, row in ipairs(asked) do
    rows[i + 1] = row()
    if rows[i + 1].failed then status = messages.FAILED end
  end
  print_rows(rows)
  return status
end

return nodes
