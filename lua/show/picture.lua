--- picture.lua - a chain, stage or dag as a few lines of text: its functions and their inputs.
--
--   clean >> merge
--     input   A = 1  B missing
--     clean   A(A)  B(B)
--     merge   C(A, B)
--     output  C = 6

local core = require "fzlua.core"
local literal = require "fzlua.literal"
local style = require "fzlua.style"

local picture = {}

local VALUE = { depth = 1, entries = 4, keys = 40, bytes = 30, width = 1000 }
local GAP <const> = "  "

local function value_text(name, value)
  return literal.safe(tostring(name)):gsub("\n", "\\n") .. " = " .. literal.of(value, VALUE)
end

-- A text such as "C(A, B)", or "C(each of A, B)" for a map.
local function call_text(node)
  local inputs = table.move(node.inputs, 1, #node.inputs, 1, {})
  if node.map then inputs[1] = "each of " .. inputs[1] end
  return ("%s(%s)"):format(table.concat(node.outputs, ", "), table.concat(inputs, ", "))
end

local function input_texts(plan, input)
  local texts, seen = {}, {}
  for _, need in ipairs(plan.needs) do
    if not seen[need.name] then
      seen[need.name] = true
      local value = input[need.name]
      texts[#texts + 1] = value == nil and { need.name .. " missing", "missing" }
        or { value_text(need.name, value) }
    end
  end
  return texts
end

local function output_texts(plan, pipeline)
  local texts = {}
  for _, final in ipairs(plan.final) do
    local value, e = pipeline.output[final.name], pipeline.errors[final.name]
    if e then texts[#texts + 1] = { final.name .. " failed", "error" } end
    if value ~= nil then texts[#texts + 1] = { value_text(final.name, value) } end
  end
  return texts
end

-- The lists of calls: one list for each stage of a chain, or one list for a dag.
local function call_texts(plan)
  local layers = {}
  for i in ipairs(plan.layers) do layers[i] = {} end
  for _, node in ipairs(plan.nodes) do
    local list = layers[node.layer]
    list[#list + 1] = { call_text(node) }
  end
  return layers
end

-- Append the texts after a label. Lines are at most `columns` wide.
local function add_row(lines, label, texts, columns)
  local line, width = label, core.text_width(label)
  for i, text in ipairs(texts) do
    local more = core.text_width(text[1]) + #GAP
    if i > 1 and width + more > columns then
      lines[#lines + 1] = line
      line, width = (" "):rep(core.text_width(label)), core.text_width(label)
    end
    line = line .. GAP .. (text[2] and style.paint(text[2], text[1]) or text[1])
    width = width + more
  end
  lines[#lines + 1] = line
end

local function widest(rows)
  local width = 0
  for _, row in ipairs(rows) do width = math.max(width, core.text_width(row[1])) end
  return width
end

local function names_of(pipeline)
  local names = {}
  for i, stage in ipairs(pipeline.stages or {}) do names[i] = literal.safe(stage.name) end
  return names
end

---@param pipeline fzlua.Pipeline
---@param columns integer
---@return string
function picture.of(pipeline, columns)
  local plan, names = pipeline:_compile(), names_of(pipeline)
  local rows = { { "input", input_texts(plan, pipeline.input) } }
  for i, texts in ipairs(call_texts(plan)) do rows[i + 1] = { names[i] or "nodes", texts } end
  local outputs = output_texts(plan, pipeline)
  if outputs[1] then rows[#rows + 1] = { "output", outputs } end
  local lines = { style.paint("title", names[1] and table.concat(names, " >> ") or "dag") }
  local width = widest(rows)
  for _, row in ipairs(rows) do
    local label = GAP .. row[1] .. (" "):rep(width - core.text_width(row[1]))
    add_row(lines, label, row[2], columns)
  end
  return table.concat(lines, "\n")
end

return picture
