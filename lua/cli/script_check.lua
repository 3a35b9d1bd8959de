--- script_check.lua - fzlua --check: finds mistakes in a script without running its pipeline.
--
-- The script must run to build the graph. It runs up to the first call that would start a worker.
-- The check then reads the pipeline that the script returned or was about to run.

local Error = require "fzlua.error"
local Findings = require "fzlua.findings"
local GlobalCheck = require "fzlua.global_check"
local core = require "fzlua.core"
local dry_start = require "fzlua.dry_start"
local messages = require "fzlua.messages"
local returned = require "fzlua.returned"
local script = require "fzlua.script"

---@class fzlua.ScriptCheck
local ScriptCheck = {}
ScriptCheck.__index = ScriptCheck
ScriptCheck.__name = "fzlua.ScriptCheck"

---@param options fzlua.CommandLine
---@param args string[]
---@param host table see cli.main
---@return fzlua.ScriptCheck
function ScriptCheck.new(options, args, host)
  local file = options.is_input and "stdin" or args[options.script]
  local findings = Findings.new(file)
  return setmetatable({
    _options = options, _args = args, _host = host, _findings = findings,
    _globals = GlobalCheck.new(findings), _place = {},
  }, ScriptCheck)
end

local PATIENCE <const> = 10 -- maximum time in seconds that the script may take

---Load the script. The output of the script goes to standard error.
---@return function to call
---@return ... the arguments of the script
function ScriptCheck:load()
  self._host.divert_output()
  dry_start.begin()
  local loaded = table.pack(script.load(self._options, self._args))
  self._globals:declare(loaded[1])
  local function note_place(e)
    self:note_place()
    return e
  end
  return self._host.call_limited, self._options.run.timeout or PATIENCE, note_place,
    table.unpack(loaded, 1, loaded.n)
end

---Note the current position, because an error is being raised here.
function ScriptCheck:note_place()
  local source, line = dry_start.place()
  if source then self._place = { file = Findings.file_of(source), line = line } end
end

-- The function that makes an output of a stage, as the place of an error about a node or input.
local function function_of(pipeline, stage, output)
  for _, state in ipairs(pipeline:_states()) do
    local maker = state.registry.makers[output]
    if maker and (state.name == stage or not stage) then return maker.f end
  end
end

-- Whether the command line has inputs. If so, missing inputs are errors.
local function has_inputs(self, arguments)
  return self._options.input ~= nil or #arguments > 0
end

local function check_missing(self, pipeline, plan, values, severity)
  local texts = require "fzlua.inputs".missing(plan, values)
  for i, need in ipairs(plan:missing(values)) do
    self._findings:add_at(severity, texts[i], function_of(pipeline, need.stage, need.output))
  end
end

local function check_unread(self, pipeline, given)
  local errors, warnings = require "fzlua.inputs".unread(pipeline:_plan_of(), given)
  for _, text in ipairs(errors) do self._findings:add("error", text) end
  for _, text in ipairs(warnings) do self._findings:add("warning", text) end
end

-- Add an error if a value cannot be sent. `what` names the value. place() returns the function that
-- reads the value.
local function check_sent(self, value, what, place)
  local ok, e = pcall(core.encode, value)
  if ok then return end
  local text = (Error.is(e) and e.message or tostring(e)):gsub("^value: ", "")
  self._findings:add_at("error", ("%s: %s"):format(what, text), place)
end

local function check_inputs(self, pipeline, plan, values)
  for _, need in ipairs(plan.needs) do
    local value = values[need.name]
    if value ~= nil then
      check_sent(self, value, "input " .. need.name,
        function_of(pipeline, need.stage, need.output))
    end
  end
end

local function check_functions(self, pipeline)
  local states = pipeline:_states()
  for _, state in ipairs(states) do self._globals:declare(state.options.init, true) end
  for _, state in ipairs(states) do
    for _, registration in ipairs(state.registry:list()) do self._globals:check(registration.f) end
  end
end

-- The plan of the outputs of --only, or of all outputs.
local function plan_of(self, pipeline, values)
  local only = returned.read_only(self._options)
  if not only then return pipeline:_plan_of() end
  local wrong = require "fzlua.inputs".unknown_outputs(pipeline:_plan_of(), only, values)
  for _, text in ipairs(wrong) do self._findings:add("error", text) end
  return pipeline:_plan_of(#wrong == 0 and only or nil)
end

-- Check a pipeline that the command would run.
local function check_returned(self, pipeline)
  local arguments = script.arguments(self._options, self._args)
  local given, values = returned.read_inputs(self._options, arguments, pipeline)
  local plan = plan_of(self, pipeline, values)
  check_unread(self, pipeline, given)
  check_inputs(self, pipeline, plan, values)
  check_missing(self, pipeline, plan, values, has_inputs(self, arguments) and "error" or "note")
end

-- Check a pipeline that the script was about to run. `values` are the inputs.
local function check_started(self, pipeline, values)
  check_inputs(self, pipeline, pipeline:_plan_of(), values or {})
end

-- Add an error that the script or a check has raised.
local function add_error(self, e, place)
  local text = core.error_text(e):match "^[^\n]*"
  local file, line, rest = text:match "^(.-):(%d+): (.*)$"
  if file then return self._findings:add("error", rest, file, tonumber(line)) end
  self._findings:add("error", text, place.file, place.line)
end

-- Check a pipeline. Its graph may be invalid.
local function check_pipeline(self, check, pipeline, values)
  check_functions(self, pipeline)
  local ok, e = pcall(check, self, pipeline, values)
  if ok then return end
  if not Error.is(e, "graph") then error(e, 0) end
  self._findings:add_at("error", e.message, function_of(pipeline, e.stage, e.output))
end

-- Print the findings. Returns the exit status.
local function finish(self)
  require "fzlua.log".level = "off" -- do not log the errors of tasks whose calls were refused
  self._host.restore_output()
  return self._findings:print() and messages.OK or messages.FAILED
end

-- Check the call that the script was about to make when it was stopped.
local function check_start(self, start)
  self._findings:add("note", ("the check ends here, because this call %s"):format(start.what),
    start.source and Findings.file_of(start.source), start.line)
  for _, f in ipairs(start.functions) do self._globals:check(f) end
  for i = 1, start.sent.n do
    check_sent(self, start.sent[i], "argument " .. i, start.functions[1])
  end
  if start.pipeline then check_pipeline(self, check_started, start.pipeline, start.values) end
end

-- Add an error if the script makes a chain and does not return it.
local function check_forgotten(self, result)
  local ok, e =
    pcall(returned.check_forgotten, result, script.arguments(self._options, self._args))
  if not ok then self._findings:add("error", e.message) end
end

---Check what the script returned.
---@param result any
---@return integer status
function ScriptCheck:finish(result)
  local pipeline = returned.as_pipeline(result)
  if dry_start.first then check_start(self, dry_start.first) end
  if pipeline then
    check_pipeline(self, check_returned, pipeline)
  elseif not dry_start.first then
    check_forgotten(self, result)
  end
  return finish(self)
end

---After an error of the script, check what the script has made so far.
---@param e any
---@return integer status
function ScriptCheck:recover(e)
  if messages.status(e) ~= messages.FAILED then return messages.error(e) end
  if Error.is(e, "timeout") then e.message = "the top level of the script " .. e.message end
  if dry_start.first then
    check_start(self, dry_start.first)
  else
    add_error(self, e, self._place)
  end
  return finish(self)
end

return ScriptCheck
