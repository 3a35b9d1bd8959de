--- outputs.lua - prints the graph, the outputs and the errors of a pipeline.

local literal = require "fzlua.literal"
local messages = require "fzlua.messages"

local outputs = {}

---Print the graph of a pipeline.
---@param pipeline fzlua.Pipeline
---@param kind "text"|"mermaid"|"dot"
---@return integer status
function outputs.print_graph(pipeline, kind)
  if kind == "mermaid" then
    io.write(pipeline:to_mermaid())
  elseif kind == "dot" then
    io.write(pipeline:to_dot())
  else
    local rows = pipeline.edge_table or pipeline:as_table()
    io.write(tostring(pipeline), "\n", tostring(rows), "\n")
  end
  return messages.OK
end

---Print the inputs of a pipeline, with the values that the command line sets.
---@param plan fzlua.Plan
---@param values table
---@return integer status
function outputs.print_inputs(plan, values)
  local texts = {}
  for name, value in pairs(values) do texts[name] = literal.brief(value):gsub("\n%s*", " ") end
  local rows = require "fzlua.tables".input_table(plan, texts, plan:passed(values))
  io.write(tostring(rows), "\n")
  return messages.OK
end

local function print_output(name, value)
  local text = type(value) == "string" and literal.safe(value) or literal.of(value)
  local multiline = type(value) == "string" and text:find "\n"
  io.write(literal.safe(name):gsub("\n", "\\n"), " =", multiline and "\n" or " ", text, "\n")
end

local function output_names(pipeline, plan)
  local names = {}
  for _, final in ipairs(plan.final) do
    if not pipeline.errors[final.name] then names[#names + 1] = final.name end
  end
  for _, name in ipairs(plan:passed(pipeline.input)) do names[#names + 1] = tostring(name) end
  return names
end

-- Print outputs as JSON. If a value has no JSON form, null is printed. Returns the exit status.
local function print_json(output, names)
  local refused = {}
  local text, count = require "fzlua.json".encode(output, names, refused)
  io.write(text, "\n")
  for _, message in ipairs(refused) do messages.complain("output " .. message:sub(2)) end
  if count > #refused then
    messages.complain(("%d more values have no JSON form"):format(count - #refused))
  end
  return count == 0 and messages.OK or messages.FAILED
end

local function print_outputs(pipeline, plan, as_json)
  local names = output_names(pipeline, plan)
  if as_json then return print_json(pipeline.output, names) end
  for _, name in ipairs(names) do print_output(name, pipeline.output[name]) end
  return messages.OK
end

-- Print the errors of a run that did not end at its first error, in the order in which the
-- functions were registered. Returns the exit status. Without on_error = "continue" these are only
-- errors of optional inputs, which do not fail the run.
local function print_errors(pipeline, plan)
  local status, seen = messages.OK, {}
  for _, layer in ipairs(plan.layers) do
    for _, made in ipairs(layer.made) do
      local e = pipeline.errors[made.name]
      if e and not seen[e] then
        seen[e] = true
        if pipeline._continues then status = messages.FAILED end
        messages.complain(tostring(e))
      end
    end
  end
  return status
end

---Print the outputs of the last invoke to standard output, and its errors to standard error.
---@param pipeline fzlua.Pipeline
---@param plan fzlua.Plan
---@param as_json boolean|nil
---@return integer status
function outputs.print(pipeline, plan, as_json)
  local printed = print_outputs(pipeline, plan, as_json)
  return math.max(printed, print_errors(pipeline, plan))
end

return outputs
