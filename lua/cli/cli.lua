--- cli.lua - the fzlua command: the order in which the parts of the command line are run.
--
-- cli/main.c calls the functions that the steps return, so that chunks have the same stack level
-- as in the command lua. The command exits with the status that the last step returns.

local command_line = require "fzlua.command_line"
local core = require "fzlua.core"
local messages = require "fzlua.messages"
local script = require "fzlua.script"

local cli = {}

-- End the trace of the script, if the script is traced. Returns the exit status, which is a failure
-- if a file that the user asked for is incomplete.
local function finish_trace()
  local defaults = package.loaded["fzlua.defaults"]
  local trace = defaults and defaults.trace
  return (not trace or trace:close()) and messages.OK or messages.FAILED
end

-- Wait for all work and tasks that the script started. A module is not loaded for this if the
-- script did not use it. Returns the exit status of the end of the trace.
local function finish_work()
  local wait = package.loaded["fzlua.wait"]
  if wait then wait.drain() end
  local process = package.loaded["fzlua.process"] -- a task may have loaded the module
  if process then process.finish() end
  local future = package.loaded["fzlua.future"]
  if future then future.log_unawaited() end
  return finish_trace()
end

-- The exit status: that of the script if it has failed, else that of the end of its work.
local function joined_status(status, at_end)
  return status == messages.OK and at_end or status
end

-- Run the pipeline that the script returned, and wait for all work that the script started. Returns
-- the exit status.
local function finish_script(options, args, host, result)
  local returned = require "fzlua.returned"
  local arguments, status = script.arguments(options, args), messages.OK
  local pipeline = returned.as_pipeline(result)
  if pipeline then
    status = returned.run(pipeline, options, arguments, host.restore_output)
  else
    returned.check_none(options)
  end
  status = joined_status(status, finish_work())
  if not pipeline and options.script then returned.check_forgotten(result, arguments) end
  return status
end

-- Wait for all work of a module that ran instead of the script. `status` is the exit status that
-- the module returned.
local function finish_module(status)
  return joined_status(status, finish_work())
end

-- Whether the options name code to run. Standard input does not count.
local function names_code(options)
  if options.script or options.module or options.version then return true end
  for _, step in ipairs(options.steps) do
    if step[1] == "-e" then return true end
  end
  return false
end

local function add_check(steps, options, args, host)
  local check = require "fzlua.script_check".new(options, args, host)
  steps[#steps + 1] = function() return check:load() end
  steps[#steps + 1] = function(result) return check:finish(result) end
  steps.check = check
end

-- Add the steps that run the script. A module may run instead of the script, or after it.
local function add_script(steps, options, args, host)
  if options.script or not names_code(options) then
    steps[#steps + 1] = function() return script.load(options, args) end
  end
  if options.module then
    steps[#steps + 1] = function(...)
      local run = require(options.module).run
      return run, options, script.arguments(options, args), host, ...
    end
  end
  steps[#steps + 1] = options.module and finish_module
    or function(result) return finish_script(options, args, host, result) end
end

-- Check the file name after --trace or --report, if the option is given.
local function check_file(name, path)
  if not path then return end
  local ok, e = pcall(require "fzlua.check".option, name, path, "fzlua")
  if not ok then messages.misuse("--%s: %s", name, (e:gsub(" to 'fzlua'", ""))) end
end

-- Open the trace of the whole script, for --trace, --report and --explain.
local function open_trace(options, args)
  check_file("trace", options.trace)
  check_file("report", options.report)
  local ok, e = pcall(require "fzlua.trace".open,
    { path = options.trace, report = options.report, explains = options.explain,
      title = options.script and args[options.script] or "fzlua", version = cli.version })
  if not ok then
    local about = e.message:find "report" and "report" or "trace"
    messages.misuse("--%s: %s", about, e.message)
  end
  require "fzlua.defaults".trace = e
  -- Replace the function that os.exit calls in this process (child/exit.c), and not os.exit itself,
  -- because scripts may send that to workers.
  local _, exit = debug.getupvalue(os.exit, 1)
  debug.setupvalue(os.exit, 1, function(status, ...)
    local complete = e:close()
    if not complete and (status == nil or status == true or status == 0) then status = false end
    exit(status, ...)
  end)
end

local function print_version(options, host)
  local prompts = options.interactive and host.input_is_terminal()
  local hint = prompts and ("  (%s)"):format(require "fzlua.commands".HINT) or ""
  io.write(cli.version, "  ", _VERSION, hint, "\n")
end

local function set_up(options, args, host)
  if options.version then print_version(options, host) end
  if options.debug_failed then require "fzlua.cache_command".debug_failed(options) end
  for name, value in pairs(options.run) do require "fzlua.defaults"[name] = value end
  local prints_other = options.graph or options.inputs or options.module or options.check
  if options.engine_creds then require "fzlua.defaults".engine_creds = options.engine_creds end
  if options.json and not prints_other then host.divert_output() end
  if options.trace or options.report or options.explain then open_trace(options, args) end
  if options.dry_run then require "fzlua.dry_run".begin() end
  if options.no_environment then host.ignore_environment() end
  script.set_arg(args, options.script)
end

-- Print the text of --help or -h. Returns the exit status.
local function print_help(long)
  local help = require "fzlua.help"
  io.write(long and help.all() or help.summary())
  return messages.OK
end

-- Read the options and append the steps for them.
local function prepare(steps, args, host)
  local options = command_line.read(args)
  if options.summary or options.help then return print_help(options.help) end
  if not names_code(options) and host.input_is_terminal() then
    command_line.make_interactive(options)
  end
  set_up(options, args, host)
  if not options.no_environment then steps[#steps + 1] = script.init end
  script.add_steps(steps, options)
  local add = options.check and add_check or add_script
  add(steps, options, args, host)
end

-- Make the message handler of all calls, and the function that reports their errors.
local function handlers(steps)
  local function traceback(e)
    if steps.check then steps.check:note_place() end
    return messages.traceback(e)
  end
  local function report_error(e)
    if steps.check then return steps.check:recover(e) end
    local status = messages.error(e)
    finish_trace()
    return status
  end
  return traceback, report_error
end

-- Run steps until one of them returns something: a function and its arguments, or the exit status.
-- The results of such a function are passed to the next step.
local function next_step(steps, what, ...)
  if what ~= nil then return what, ... end
  local step = steps[steps.next]
  steps.next = steps.next + 1
  return next_step(steps, step(...))
end

cli.version = "fzlua"

---Start the command. The caller calls step() without arguments. If step() returns a function and
---arguments, the caller calls the function, and passes its results to step(). When step() returns
---an integer, this is the exit status.
---@param args string[] index 0 is the command's name
---@param version string
---@param host table functions of cli/main.c: divert_output, restore_output, output_failed,
---input_is_terminal, ignore_environment
---@return function step
---@return function traceback the message handler of all calls
---@return function report prints an error that ended a call, returns the exit status
function cli.main(args, version, host)
  cli.version = "fzlua " .. version
  core.command = args[0] -- so that fz.run_scripts() can run this command
  local steps = { next = 1 }
  steps[1] = function() return prepare(steps, args, host) end
  return function(...) return next_step(steps, nil, ...) end, handlers(steps)
end

return cli
