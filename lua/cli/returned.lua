--- returned.lua - runs the pipeline that a script returned, as the options say.

local messages = require "fzlua.messages"

local returned = {}

---The value that the script returned, as a pipeline to run; nil if it is not a pipeline.
---@param value any
---@return fzlua.Pipeline|nil
function returned.as_pipeline(value)
  local chain = package.loaded["fzlua.chain"]
  local dag = package.loaded["fzlua.dag"]
  local stage = package.loaded["fzlua.stage"]
  if chain and chain.is(value) or dag and dag.is(value) then return value end
  if stage and stage.is(value) then return require("fzlua.chain").new { value } end
end

---Raise if an option was given that needs a chain. The script has not returned a chain.
---@param options fzlua.CommandLine
function returned.check_none(options)
  for _, name in ipairs { "graph", "input", "inputs", "only", "json", "dry_run" } do
    if options[name] then
      messages.misuse("--%s: the script returned no chain", (name:gsub("_", "-")))
    end
  end
end

---Raise if the script forgot to return its chain.
---@param result any what the script returned
---@param arguments string[] the arguments after the script
function returned.check_forgotten(result, arguments)
  local made = require "fzlua.made"
  if made.used then return end
  if (made.stage or made.pipeline) and require("fzlua.inputs").are_in(arguments) then
    messages.misuse "inputs are given but the script returned no chain: end it with 'return chain'"
  end
  if made.pipeline and result == nil then
    messages.misuse
      "the script makes a chain and neither invokes nor returns it: end it with 'return chain'"
  end
end

---The inputs on the command line, and all inputs. An input on the command line replaces the one
---that the script has set in the chain.
---@param options fzlua.CommandLine
---@param arguments string[]
---@param pipeline fzlua.Pipeline
---@return table given, table values
function returned.read_inputs(options, arguments, pipeline)
  local ok, given = pcall(require "fzlua.inputs".read, options.input, arguments)
  if not ok then messages.misuse("%s", given) end
  local values = {}
  for name, value in pairs(pipeline.input) do values[name] = value end
  for name, value in pairs(given) do values[name] = value end
  return given, values
end

-- The name of an output for a name that --cache ls prints. The name "stage.output" stands for
-- `output`, unless "stage.output" is itself an output.
local function without_stage(pipeline, name)
  local plan = pipeline:_plan_of()
  local output = not plan:makes(name) and name:match "^.*%.(.+)$"
  return output and plan:makes(output) and output or name
end

---The sorted outputs of --only or --debug-failed; nil without these options.
---@param options fzlua.CommandLine
---@param pipeline fzlua.Pipeline
---@return string[]|nil
function returned.read_only(options, pipeline)
  local wanted = options.debug_failed or options.only
  if not wanted then return nil end
  local names = {}
  for name in wanted:gmatch "[^,]+" do
    names[#names + 1] = options.debug_failed and without_stage(pipeline, name) or name
  end
  local ok, checked = pcall(require "fzlua.check".option, "outputs", names, "--only")
  return ok and checked or messages.misuse "--only: no output is named"
end

-- The plan of the outputs of --only, or of all outputs.
local function plan_of(pipeline, only, values)
  local wrong = require "fzlua.inputs".unknown_outputs(pipeline:_plan_of(), only or {}, values)
  if #wrong > 0 then messages.misuse("%s", table.concat(wrong, "\n")) end
  return pipeline:_plan_of(only)
end

-- Raise unless all inputs are set and can be used. Warn about inputs that no function reads.
local function check_inputs(pipeline, plan, given, values)
  local inputs = require "fzlua.inputs"
  local errors, warnings = inputs.unread(pipeline:_plan_of(), given)
  for i, text in ipairs(inputs.missing(plan, values)) do table.insert(errors, i, text) end
  for _, warning in ipairs(warnings) do messages.complain("warning: " .. warning) end
  if #errors > 0 then messages.misuse("%s", table.concat(errors, "\n")) end
end

---Run a pipeline and print its outputs.
---@param pipeline fzlua.Pipeline
---@param options fzlua.CommandLine
---@param arguments string[] the inputs
---@param restore_output function ends the redirection of standard output that --json needs
---@return integer status
function returned.run(pipeline, options, arguments, restore_output)
  local outputs = require "fzlua.outputs"
  if options.graph then return outputs.print_graph(pipeline, options.graph) end
  local given, values = returned.read_inputs(options, arguments, pipeline)
  local only = returned.read_only(options, pipeline)
  local plan = plan_of(pipeline, only, values)
  if options.inputs then return outputs.print_inputs(plan, values) end
  check_inputs(pipeline, plan, given, values)
  options.run.outputs, options.run.quiet = only, nil -- the option `quiet` is in fzlua.defaults, too
  if options.dry_run then
    return require "fzlua.dry_run".print(pipeline, plan, values, options.run)
  end
  pipeline:invoke(values, options.run)
  if options.json then restore_output() end
  return outputs.print(pipeline, plan, options.json)
end

return returned
