--- cli.lua - the fzlua command: its options, the script, and the chain that the script returns.
--
-- cli/main.c calls the functions that the steps return, so that chunks have the same level in the
-- stack as in lua, and exits with the status that the last step returns.

local Error = require "fzlua.error"
local core = require "fzlua.core"

local cli = {}

local OK, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

local USAGE = [==[
usage: fzlua [options] [script [args]]
If the script returns a chain, it is run; args NAME=VALUE are its inputs. VALUE is
a number, true, false, a JSON object, array or string, and otherwise a string.
NAME:=JSON is always JSON; NAME=@FILE is the bytes of a file.

  -e STAT          run the string STAT
  -l MOD, -l G=MOD require MOD into a global
  -v, --version    print the version
  -W               turn warnings on
  -                run a script from standard input
  --               end of the options
  -j N             run at most N functions at once; 0: all in this process
  --input FILE     inputs from a JSON object
  --json           print the outputs as one JSON object, other output to stderr
  --graph[=KIND]   print the graph (text, mermaid or dot) and run nothing
  --timeout S      end an attempt of a function after S seconds
  --retries N      repeat a failed function up to N times
  --on-error MODE  after a failure: stop, now or continue
  --seed N         derive all random numbers from N
  --progress       show the progress of chains and maps
  --quiet          show no progress
  --help           show this summary
]==]

local function complain(text)
  io.stderr:write("fzlua: ", text, "\n")
end

-- Errors of wrong use; main() prints the message and exits with status 2.
local Misuse = {}

-- Errors without a traceback; main() prints the message and exits with status 1.
local Failure = {}

local function fail(message)
  error(setmetatable({ message = message }, Failure), 0)
end

local function misuse(fmt, ...)
  error(setmetatable({ message = fmt:format(...) }, Misuse), 0)
end

local function number_option(name)
  return function(options, value, flag)
    local check = require "fzlua.check"
    local ok, checked = pcall(check.option, name, tonumber(value) or value, "fzlua")
    if not ok then misuse("%s: %s", flag, (checked:gsub(" to 'fzlua'", ""))) end
    options.invoke[name] = checked
  end
end

local GRAPHS = { text = true, mermaid = true, dot = true }

-- Options with a value, as "-x VALUE", "-xVALUE", "--xx VALUE" or "--xx=VALUE".
local VALUED = {
  ["-e"] = function(options, value)
    options.chunks[#options.chunks + 1] = { "-e", value }
    options.has_code = true
  end,
  ["-l"] = function(options, value) options.chunks[#options.chunks + 1] = { "-l", value } end,
  ["-j"] = number_option "jobs",
  ["--timeout"] = number_option "timeout",
  ["--retries"] = number_option "retries",
  ["--on-error"] = number_option "on_error",
  ["--seed"] = number_option "seed",
  ["--input"] = function(options, value) options.input = value end,
}

local PLAIN = {
  ["-W"] = function(options) options.chunks[#options.chunks + 1] = { "-W" } end,
  ["-v"] = function(options) options.version = true end,
  ["--version"] = function(options) options.version = true end,
  ["--help"] = function(options) options.help = true end,
  ["--json"] = function(options) options.json = true end,
  ["--progress"] = function(options) options.invoke.progress = true end,
  ["--quiet"] = function(options) options.invoke.quiet = true end,
  ["--graph"] = function(options) options.graph = "text" end,
}

-- Split one argument into the option and the value written in it.
local function split(argument)
  if argument:sub(1, 2) == "--" then
    local flag, value = argument:match "^(%-%-[^=]*)=(.*)$"
    return flag or argument, value
  end
  if VALUED[argument:sub(1, 2)] and #argument > 2 then
    return argument:sub(1, 2), argument:sub(3)
  end
  return argument
end

-- Read the options; `options.script` is the index of the script in `args`, if there is one.
local function parse(args)
  local options = { chunks = {}, invoke = {} }
  local i = 1
  while i <= #args do
    local argument = args[i]
    if argument == "--" then
      i = i + 1
      break
    end
    if argument == "-" or argument:sub(1, 1) ~= "-" then break end
    local flag, value = split(argument)
    if flag == "--graph" and value then
      if not GRAPHS[value] then misuse("--graph is text, mermaid or dot, not %s", value) end
      options.graph = value
    elseif PLAIN[flag] and not value then
      PLAIN[flag](options)
    elseif VALUED[flag] then
      if not value then
        i = i + 1
        value = args[i]
      end
      if not value then misuse("%s needs a value", flag) end
      VALUED[flag](options, value, flag)
    else
      misuse("unrecognized option '%s'", argument)
    end
    i = i + 1
  end
  options.script = i <= #args and i or nil
  return options
end

-- The global `arg`: the script is at 0, the arguments before it at negative indexes.
local function make_arg(args, script)
  local arg = {}
  for i = 0, #args do arg[i - (script or 0)] = args[i] end
  return arg
end

-- Kinds of errors that a call in the script itself may raise.
local OWN = { error = true, closed = true, unsendable = true, memory = true }

-- Whether the error was raised in the script. Other errors have a position or a traceback.
local function is_own(e)
  return OWN[e.kind] and not (e.traceback or e.pid or e.stage or e.output or e.index)
end

-- The name of the module that -l is loading; or false.
local loading = false

-- The error of require() in one line if the module is missing or broken; or nil.
local function loading_error(e)
  local missing = ("module '%s' not found"):format(loading)
  local broken = ("error loading module '%s'"):format(loading)
  if e:sub(1, #missing) == missing then return missing end
  if e:sub(1, #broken) == broken then return (e:gsub("\n%s*", " ")) end
end

-- As lua5.4 does: add a traceback to a text, return an object with __tostring unchanged.
local function traceback(e)
  local message = loading and type(e) == "string" and loading_error(e)
  if message then return setmetatable({ message = message }, Failure) end
  if type(e) == "string" or type(e) == "number" then
    return core.traceback(tostring(e), 2)
  end
  if Error.is(e) then
    if is_own(e) then e.traceback = core.traceback(nil, 2) end
    return e
  end
  local mt = debug.getmetatable(e)
  if mt == Misuse or mt == Failure then return e end
  if type(mt) == "table" and mt.__tostring then return e end
  local ok, text = pcall(require "fzlua.literal".brief, e)
  if type(e) ~= "table" or not ok then text = ("(error object is a %s value)"):format(type(e)) end
  return core.traceback(text, 2)
end

-- An error ends the script: end its tasks, whose variables are closed, and log their errors.
local function drop_tasks()
  local task, future = package.loaded["fzlua.task"], package.loaded["fzlua.future"]
  if task then pcall(task.cancel_all) end
  if future then pcall(future.log_unawaited) end
end

-- Print an error; returns the exit status.
local function report(e)
  drop_tasks()
  if Error.is(e, "interrupted") then
    complain(e.message)
    return INTERRUPTED
  end
  if getmetatable(e) == Misuse then
    complain(e.message)
    return WRONG_USE
  end
  if getmetatable(e) == Failure then
    complain(e.message)
    return FAILED
  end
  local ok, text = pcall(tostring, e)
  complain(ok and text or "(error object whose __tostring raises)")
  return FAILED
end

local function checked(chunk, message)
  if not chunk then fail(message) end
  return chunk
end

-- Load LUA_INIT as lua5.4 does: a chunk, or @file.
local function load_init()
  for _, name in ipairs { "LUA_INIT_5_4", "LUA_INIT" } do
    local init = os.getenv(name)
    if init then
      if init:sub(1, 1) == "@" then return checked(loadfile(init:sub(2))) end
      return checked(load(init, "=" .. name))
    end
  end
end

-- For each option that runs code: a function that adds its steps, see next_step.
local ADD = {
  ["-e"] = function(steps, text)
    steps[#steps + 1] = function() return checked(load(text, "=(command line)")) end
  end,
  ["-W"] = function(steps)
    steps[#steps + 1] = function() warn "@on" end
  end,
  ["-l"] = function(steps, text)
    local global, module = text:match "^([^=]+)=(.*)$"
    steps[#steps + 1] = function()
      loading = module or text
      return require, loading
    end
    steps[#steps + 1] = function(result)
      loading = false
      _G[global or text] = result
    end
  end,
}

-- The arguments after the script on the command line.
local function script_arguments(options, args)
  return table.move(args, (options.script or #args) + 1, #args, 1, {})
end

-- Raise for options that need a chain, if the script returned none.
local function check_no_chain(options)
  for _, name in ipairs { "graph", "input", "json" } do
    if options[name] then misuse("--%s: the script returned no chain", name) end
  end
end

-- Raise if the script forgot to return its chain; `result` is what it returned.
local function check_forgotten(options, args, result)
  local made = require "fzlua.made"
  if made.used or not options.script then return end
  if made.stage or made.pipeline then
    if require("fzlua.inputs").are_in(script_arguments(options, args)) then
      misuse "inputs are given but the script returned no chain: end it with 'return chain'"
    end
  end
  if made.pipeline and result == nil then
    misuse "the script makes a chain and neither invokes nor returns it: end it with 'return chain'"
  end
end

-- The inputs of the command line, merged over the inputs that the script set in the chain.
local function read_inputs(options, args, pipeline, plan)
  local inputs = require "fzlua.inputs"
  local ok, given = pcall(inputs.read, options.input, script_arguments(options, args))
  if not ok then misuse("%s", given) end
  local errors, warnings = inputs.unread(plan, given)
  local merged = {}
  for name, value in pairs(pipeline.input) do merged[name] = value end
  for name, value in pairs(given) do merged[name] = value end
  for i, need in ipairs(plan:missing(merged)) do
    table.insert(errors, i, ("missing input %s (read for %s%s)"):format(need.name,
      need.stage and need.stage .. "." or "", need.output))
  end
  for _, warning in ipairs(warnings) do complain("warning: " .. warning) end
  if #errors > 0 then misuse("%s", table.concat(errors, "\nfzlua: ")) end
  return merged
end

local function print_graph(pipeline, kind)
  if kind == "mermaid" then
    io.write(pipeline:to_mermaid())
  elseif kind == "dot" then
    io.write(pipeline:to_dot())
  else
    local rows = pipeline.edge_table or pipeline:as_table()
    io.write(tostring(pipeline), "\n", tostring(rows), "\n")
  end
end

local function print_output(name, value)
  local literal = require "fzlua.literal"
  local text = type(value) == "string" and literal.safe(value) or literal.of(value)
  local multiline = type(value) == "string" and text:find "\n"
  io.write(literal.safe(name):gsub("\n", "\\n"), " =", multiline and "\n" or " ", text, "\n")
end

-- The names of the outputs to print, in order.
local function output_names(pipeline, plan)
  local names = {}
  for _, final in ipairs(plan.final) do
    if not pipeline.errors[final.name] then names[#names + 1] = final.name end
  end
  for _, name in ipairs(plan:passed(pipeline.input)) do names[#names + 1] = tostring(name) end
  return names
end

-- Print outputs as JSON. A value without a JSON form is printed as null. Returns the exit status.
local function print_json(output, names)
  local refused = {}
  local text, count = require "fzlua.json".encode(output, names, refused)
  io.write(text, "\n")
  for _, message in ipairs(refused) do complain("output " .. message:sub(2)) end
  if count > #refused then
    complain(("%d more values have no JSON form"):format(count - #refused))
  end
  return count == 0 and OK or FAILED
end

local function print_outputs(options, pipeline, plan)
  local names = output_names(pipeline, plan)
  if options.json then return print_json(pipeline.output, names) end
  for _, name in ipairs(names) do print_output(name, pipeline.output[name]) end
  return OK
end

-- Print the errors of a run that went on, in the order of registration. Without on_error =
-- "continue" they are those of optional inputs, which are no failure of the run.
local function print_errors(pipeline, plan)
  local status, seen = OK, {}
  for _, layer in ipairs(plan.layers) do
    for _, made in ipairs(layer.made) do
      local e = pipeline.errors[made.name]
      if e and not seen[e] then
        seen[e] = true
        if pipeline._continues then status = FAILED end
        complain(tostring(e))
      end
    end
  end
  return status
end

local function run_pipeline(options, args, pipeline)
  local plan = pipeline:_compile()
  if options.graph then
    print_graph(pipeline, options.graph)
    return OK
  end
  pipeline:invoke(read_inputs(options, args, pipeline, plan), options.invoke)
  if options.json then cli.host.restore_output() end
  local printed = print_outputs(options, pipeline, plan)
  return math.max(printed, print_errors(pipeline, plan))
end

-- The value that the script returned as a pipeline to run, or nil.
local function as_pipeline(value)
  local chain = package.loaded["fzlua.chain"]
  local dag = package.loaded["fzlua.dag"]
  local stage = package.loaded["fzlua.stage"]
  if chain and chain.is(value) or dag and dag.is(value) then return value end
  if stage and stage.is(value) then return require("fzlua.chain").new { value } end
end

local function load_script(options, args)
  local script = args[options.script]
  if script == "-" and args[options.script - 1] ~= "--" then script = nil end
  local chunk = checked(loadfile(script))
  if not options.script then return chunk end
  if type(arg) ~= "table" then error("'arg' is not a table", 0) end
  return chunk, table.unpack(arg) -- -e and -l may have changed it
end

-- Wait for all work and tasks that the script started; modules that it did not use are not loaded.
local function finish_work()
  local wait, process = package.loaded["fzlua.wait"], package.loaded["fzlua.process"]
  if wait then wait.drain() end
  if process then process.finish() end
  local future = package.loaded["fzlua.future"]
  if future then future.log_unawaited() end
end

-- Run the pipeline that the script returned, and wait for all work that it started. Returns the
-- exit status.
local function finish(options, args, result)
  local status = OK
  local pipeline = as_pipeline(result)
  if pipeline then
    status = run_pipeline(options, args, pipeline)
  else
    check_no_chain(options)
  end
  finish_work()
  if not pipeline then check_forgotten(options, args, result) end
  return status
end

-- Read the options and append the steps for them.
local function prepare(steps, args)
  local options = parse(args)
  if options.help then
    io.write(USAGE)
    return OK
  end
  if options.version then io.write(cli.version, "  ", _VERSION, "\n") end
  for name, value in pairs(options.invoke) do require "fzlua.defaults"[name] = value end
  if options.json and not options.graph then cli.host.divert_output() end
  _G.arg = make_arg(args, options.script)
  steps[#steps + 1] = load_init
  for _, chunk in ipairs(options.chunks) do ADD[chunk[1]](steps, chunk[2]) end
  steps[#steps + 1] = function()
    if options.script or not (options.has_code or options.version) then
      return load_script(options, args)
    end
  end
  steps[#steps + 1] = function(result) return finish(options, args, result) end
end

-- Run steps until one returns something: a function and its arguments, or the exit status. The
-- results of the function go to the next step.
local function next_step(steps, what, ...)
  if what ~= nil then return what, ... end
  local step = steps[steps.next]
  steps.next = steps.next + 1
  return next_step(steps, step(...))
end

cli.version = "fzlua"

---Start the command. The caller calls step() without arguments, calls the function that step()
---returns with the further values, passes its results to step(), and so on, until step() returns
---the exit status.
---@param args string[] index 0 is the command's name
---@param version string
---@param host table divert_output, restore_output: see cli/output.h
---@return function step
---@return function traceback the message handler of all calls
---@return function report prints an error that ended a call, returns the exit status
function cli.main(args, version, host)
  cli.host = host
  cli.version = "fzlua " .. version
  core.command = args[0] -- so that fz.run_scripts() can run this command
  local steps = { next = 1 }
  steps[1] = function() return prepare(steps, args) end
  return function(...) return next_step(steps, nil, ...) end, traceback, report
end

return cli
