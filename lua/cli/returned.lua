--- returned.lua - runs the pipeline that a script returned, as the options say.

local report = require "fzlua.report"

local returned = {}

---The value that the script returned as a pipeline to run, or nil.
---@param value any
---@return fzlua.Pipeline|nil
function returned.as_pipeline(value)
  local chain = package.loaded["fzlua.chain"]
  local dag = package.loaded["fzlua.dag"]
  local stage = package.loaded["fzlua.stage"]
  if chain and chain.is(value) or dag and dag.is(value) then return value end
  if stage and stage.is(value) then return require("fzlua.chain").new { value } end
end

---Raise for options that need a chain.
---@param options fzlua.CommandLine
function returned.check_none(options)
  for _, name in ipairs { "graph", "input", "json" } do
    if options[name] then report.misuse("--%s: the script returned no chain", name) end
  end
end

---Raise if the script forgot to return its chain.
---@param result any what it returned
---@param arguments string[] the arguments after the script
function returned.check_forgotten(result, arguments)
  local made = require "fzlua.made"
  if made.used then return end
  if (made.stage or made.pipeline) and require("fzlua.inputs").are_in(arguments) then
    report.misuse "inputs are given but the script returned no chain: end it with 'return chain'"
  end
  if made.pipeline and result == nil then
    report.misuse
      "the script makes a chain and neither invokes nor returns it: end it with 'return chain'"
  end
end

-- The inputs of the command line, merged over the inputs that the script set in the chain.
local function read_inputs(options, arguments, pipeline, plan)
  local inputs = require "fzlua.inputs"
  local ok, given = pcall(inputs.read, options.input, arguments)
  if not ok then report.misuse("%s", given) end
  local errors, warnings = inputs.unread(plan, given)
  local merged = {}
  for name, value in pairs(pipeline.input) do merged[name] = value end
  for name, value in pairs(given) do merged[name] = value end
  for i, need in ipairs(plan:missing(merged)) do
    table.insert(errors, i, ("missing input %s (read for %s%s)"):format(need.name,
      need.stage and need.stage .. "." or "", need.output))
  end
  for _, warning in ipairs(warnings) do report.complain("warning: " .. warning) end
  if #errors > 0 then report.misuse("%s", table.concat(errors, "\nfzlua: ")) end
  return merged
end

---Run a pipeline and print its outputs.
---@param pipeline fzlua.Pipeline
---@param options fzlua.CommandLine
---@param arguments string[] the inputs
---@param restore_output function ends the diversion of standard output for --json
---@return integer status
function returned.run(pipeline, options, arguments, restore_output)
  local outputs = require "fzlua.outputs"
  local plan = pipeline:_compile()
  if options.graph then
    outputs.print_graph(pipeline, options.graph)
    return report.OK
  end
  pipeline:invoke(read_inputs(options, arguments, pipeline, plan), options.run)
  if options.json then restore_output() end
  return outputs.print(pipeline, plan, options.json)
end

return returned
