--- tables.lua - tables of plans, and other lists of rows that are printed aligned.
--
-- All output follows the order of registration, so that the same graph gives the same bytes.

local core = require "fzlua.core"

local tables = {}

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

-- A name as one line of text that every terminal and tool accepts.
local function plain(name)
  name = name:gsub("%c", function(c) return ESCAPES[c] or ("\\%d"):format(c:byte()) end)
  if utf8.len(name) then return name end
  return (name:gsub("[\x80-\xff]", function(c) return ("\\x%02X"):format(c:byte()) end))
end

tables.plain = plain

---@class fzlua.Table a list of rows, printed aligned
local Table = { __name = "fzlua.Table" }

local columns_of = setmetatable({}, { __mode = "k" })

local function new_table(columns)
  local rows = setmetatable({}, Table)
  columns_of[rows] = columns
  return rows
end

---An empty table with these columns.
---@param columns string[]
---@return fzlua.Table
tables.new = new_table

local function cell_text(value)
  return value == nil and "" or plain(tostring(value))
end

local function padded(text, width, right)
  local gap = (" "):rep(width - core.text_width(text))
  return right and gap .. text or text .. gap
end

function Table:__tostring()
  local columns = columns_of[self]
  local lines, widths, numeric = { {} }, {}, {}
  for k, column in ipairs(columns) do
    lines[1][k], widths[k], numeric[k] = column, core.text_width(column), true
  end
  for i, row in ipairs(self) do
    local line = {}
    for k, column in ipairs(columns) do
      line[k] = cell_text(row[column])
      widths[k] = math.max(widths[k], core.text_width(line[k]))
      numeric[k] = numeric[k] and (row[column] == nil or math.type(row[column]) ~= nil)
    end
    lines[i + 1] = line
  end
  for i, line in ipairs(lines) do
    for k in ipairs(columns) do line[k] = padded(line[k], widths[k], numeric[k]) end
    -- Match greedily, which takes linear time. The pattern "%s+$" would try each run of spaces up
    -- to its end.
    lines[i] = table.concat(line, "  "):match "^.*%S" or ""
  end
  return table.concat(lines, "\n")
end

local function function_name(node)
  return "function " .. node.outputs[1]
end

tables.function_name = function_name

-- Call visit(name, node) for each output, in the order of registration.
local function each_output(plan, visit)
  for _, layer in ipairs(plan.layers) do
    for _, made in ipairs(layer.made) do
      visit(made.name, plan.nodes[plan.maker[made.value]])
    end
  end
end

tables.each_output = each_output

---One row per input of each output of a chain.
---@param plan fzlua.Plan
---@return table
function tables.as_table(plan)
  local rows =
    new_table { "stage_id", "stage_name", "output", "prev_stage_id", "inputs", "func" }
  each_output(plan, function(output, node)
    for i = 1, math.max(#node.inputs, 1) do
      rows[#rows + 1] = {
        stage_id = node.layer - 1, stage_name = node.stage, output = output,
        prev_stage_id = node.values[i] and plan:layer_of(node.values[i]) - 1,
        inputs = node.inputs[i], func = function_name(node),
      }
    end
  end)
  return rows
end

---One row per input of each node of a dag.
---@param plan fzlua.Plan
---@return table
function tables.dag_table(plan)
  local rows = new_table { "output", "inputs", "func" }
  each_output(plan, function(output, node)
    for i = 1, math.max(#node.inputs, 1) do
      rows[#rows + 1] = { output = output, inputs = node.inputs[i], func = function_name(node) }
    end
  end)
  return rows
end

---The edges of a chain: from functions to their outputs, then from inputs to the functions that
---read them.
---@param plan fzlua.Plan
---@return table
function tables.edge_table(plan)
  local rows = new_table { "source_id", "source_ele", "target_id", "target_ele" }
  local function edge(source_id, source, target_id, target)
    rows[#rows + 1] =
      { source_id = source_id, source_ele = source, target_id = target_id, target_ele = target }
  end
  each_output(plan, function(output, node)
    edge(node.layer - 1, function_name(node), node.layer - 1, output)
  end)
  local seen = {}
  each_output(plan, function(_, node)
    if seen[node] then return end
    seen[node] = true
    for i, name in ipairs(node.inputs) do
      edge(plan:layer_of(node.values[i]) - 1, name, node.layer - 1, function_name(node))
    end
  end)
  return rows
end

-- Input of the plan -> a text "stage.output, ..." with the functions that read the input.
local function readers(plan)
  local lists = {}
  for _, node in ipairs(plan.nodes) do
    local reader = (node.stage and node.stage .. "." or "") .. node.outputs[1]
    for i, name in ipairs(node.inputs) do
      if plan:layer_of(node.values[i]) == 0 then
        lists[name] = lists[name] and lists[name] .. ", " .. reader or reader
      end
    end
  end
  return lists
end

---The table of inputs and values of a chain or dag: one row for each input, in the order of first
---use, then one row for each other value.
---@param plan fzlua.Plan
---@param values table<string, string> texts of the values that are set
---@param names string[] the inputs that are set and pass through
---@return table
function tables.input_table(plan, values, names)
  local rows, read_by = new_table { "input", "read_by", "value" }, readers(plan)
  local function add(name)
    rows[#rows + 1] = { input = name, read_by = read_by[name], value = values[name] }
  end
  for _, need in ipairs(plan.needs) do add(need.name) end
  for _, name in ipairs(names) do
    if not read_by[name] then add(name) end
  end
  return rows
end

return tables
