--- draw.lua - plans as pictures: Mermaid and DOT.
--
-- All output follows the order of registration, so that the same graph gives the same bytes.

local tables = require "fzlua.tables"

local each_output, function_name, plain = tables.each_output, tables.function_name, tables.plain

local draw = {}

-- The groups, elements and edges of a picture. `states` are the stages of a chain. For a dag
-- `states` is nil, and its nodes are in no group.
local function elements(plan, states)
  local input = { label = "input" }
  local groups, edges = { input }, {}
  for i, need in ipairs(plan.needs) do
    input[i] = { id = "v" .. need.value, label = need.name }
  end
  for number in ipairs(plan.layers) do
    groups[number + 1] = { label = states and (states[number].name or "stage") }
  end
  local drawn = {}
  each_output(plan, function(output, node)
    local group = groups[node.layer + 1]
    local id = "f" .. node.id
    if not drawn[node] then
      drawn[node] = true
      group[#group + 1] = { id = id, label = function_name(node), round = true, map = node.map }
      if not states then group[#group].label = table.concat(node.outputs, ", ") end
    end
    if states then
      for k, name in ipairs(node.outputs) do
        local value = "v" .. node.first + k - 1
        if name == output then
          group[#group + 1] = { id = value, label = name }
          edges[#edges + 1] = { id, value }
        end
      end
    end
  end)
  for _, node in ipairs(plan.nodes) do
    for i, value in ipairs(node.values) do
      local maker = plan.maker[value]
      local from = (states or not maker) and "v" .. value or "f" .. maker
      local optional = node.registration.optional
      edges[#edges + 1] = {
        from, "f" .. node.id, dashed = node.layer - plan:layer_of(value) > 1,
        optional = maker and optional and optional[node.inputs[i]],
      }
    end
  end
  return groups, edges
end

-- Kind of element -> shape. A map is drawn as a stack.
local MERMAID = {
  value = "    %s[/%s/]", func = "    %s(%s)", map = "    %s@{ shape: procs, label: %s }",
}
local DOT = { value = "parallelogram", func = "box, style=rounded", map = "box3d" }

local function shape_of(element, shapes)
  return shapes[element.map and "map" or element.round and "func" or "value"]
end

-- A label in quotes, with Mermaid's entities for all characters that its grammar or Markdown uses.
local function mermaid_label(name)
  name = plain(name):gsub("[^%w _.\x80-\xff-]", function(c)
    return ("#%d;"):format(c:byte())
  end)
  return '"' .. (name == "" and " " or name) .. '"'
end

---@param plan fzlua.Plan
---@param states? table[] of the stages
---@return string
function draw.mermaid(plan, states)
  local groups, edges = elements(plan, states)
  local lines = { "flowchart LR" }
  local function add(fmt, ...) lines[#lines + 1] = fmt:format(...) end
  for i, group in ipairs(groups) do
    if group.label then add("  subgraph g%d[%s]", i - 1, mermaid_label(group.label)) end
    for _, each in ipairs(group) do
      add(shape_of(each, MERMAID), each.id, mermaid_label(each.label))
    end
    if group.label then add("  end") end
  end
  for _, edge in ipairs(edges) do
    local arrow = edge.dashed and "-.->" or "-->"
    add("  %s %s%s %s", edge[1], arrow, edge.optional and "|optional|" or "", edge[2])
  end
  return table.concat(lines, "\n") .. "\n"
end

-- DOT reads HTML entities in its strings.
local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local function dot_label(name)
  return '"' .. plain(name):gsub('[&<>"]', ENTITIES):gsub("\\", "\\\\") .. '"'
end

---@param plan fzlua.Plan
---@param states? table[] of the stages
---@return string
function draw.dot(plan, states)
  local groups, edges = elements(plan, states)
  local lines = { "digraph {", "  rankdir=LR;" }
  local function add(fmt, ...) lines[#lines + 1] = fmt:format(...) end
  for i, group in ipairs(groups) do
    if group.label then
      add("  subgraph cluster_%d {\n    label=%s;", i - 1, dot_label(group.label))
    end
    for _, each in ipairs(group) do
      add("    %s [label=%s, shape=%s];", each.id, dot_label(each.label), shape_of(each, DOT))
    end
    if group.label then add("  }") end
  end
  for _, edge in ipairs(edges) do
    local style = edge.dashed and " [style=dashed]" or ""
    local label = edge.optional and " [label=optional]" or ""
    add("  %s -> %s%s%s;", edge[1], edge[2], style, label)
  end
  add("}")
  return table.concat(lines, "\n") .. "\n"
end

return draw
