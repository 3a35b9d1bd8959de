--- exec.lua - runs other programs, and scripts in parallel, each in its own process.
--
-- No shell is used. The descendants of a program end when the program ends. The program is ended
-- after its timeout, or when an error stops the function that waits for the program.

local Error = require "fzlua.error"
local ProgramIO = require "fzlua.program_io"
local check = require "fzlua.check"
local core = require "fzlua.core"
local wait = require "fzlua.wait"

local exec = {}

-- Raise unless `list` is a table with at least one element whose keys are exactly 1 to n.
local function check_list(list, expected, arg, what)
  if type(list) ~= "table" or getmetatable(list) ~= nil then
    check.fail("bad argument #%d to '%s' (%s expected, got %s)", arg, what, expected,
      list == nil and "no value" or check.typename(list))
  end
  for key in pairs(list) do
    if math.type(key) ~= "integer" or key < 1 or key > #list then
      check.fail("bad argument #%d to '%s' (%s expected, got the key %s)", arg, what, expected,
        tostring(key))
    end
  end
end

-- Check and copy the words of a command line. `name` names the command line in error messages.
local function check_words(words, name, what)
  if #words == 0 then check.fail("bad argument #1 to '%s' (%s is empty)", what, name) end
  local copy = {}
  for i = 1, #words do
    local word = words[i]
    if type(word) ~= "string" then
      check.fail("bad argument #1 to '%s' (word %d of %s is a %s, not a string)", what, i, name,
        check.typename(word))
    elseif word:find("\0", 1, true) then
      check.fail("bad argument #1 to '%s' (word %d of %s has a NUL byte)", what, i, name)
    end
    copy[i] = word
  end
  return copy
end

-- Raise unless the program succeeded.
local function check_end(words, ended, text)
  if ended.exitcode == 0 and not ended.timed_out then return end
  local kind = ended.timed_out and "timeout" or ended.signal and "crash" or "error"
  local message = ended.timed_out and ("'%s' took too long"):format(words[1])
    or ("'%s' %s%s"):format(words[1], ended.signal and "was " or "", text)
  local last = (ended.stderr or ""):match "([^\n]+)\n*$"
  if last then message = message .. ": " .. last end
  error(Error.new {
    kind = kind, message = message, exitcode = ended.exitcode, signal = ended.signal, cause = ended,
  }, 0)
end

-- The options of core.exec.
local function engine_options(options)
  local stdin = options.stdin
  local function file(given) return type(given) == "table" and given.file or nil end
  return {
    cwd = options.cwd, env = options.env, timeout = options.timeout,
    stdin = type(stdin) == "string" and stdin or nil, feed = type(stdin) == "function",
    follow_stdout = type(options.stdout) == "function",
    follow_stderr = type(options.stderr) == "function",
    stdin_file = file(stdin), stdout_file = file(options.stdout),
    stderr_file = file(options.stderr),
  }
end

function exec.exec(words, options)
  check_list(words, "list of strings", 1, "fz.exec")
  words = check_words(words, "the list", "fz.exec")
  options = check.options(options, check.EXEC, 2, "fz.exec")
  local program <close> = core.exec(words, engine_options(options))
  ProgramIO.new(program, options):run()
  local ended, text = program:result()
  if options.stdout then ended.stdout = nil end
  if options.stderr then ended.stderr = nil end
  if options.check then check_end(words, ended, text) end
  if ended.timed_out then return nil, "timeout", ended end
  return ended
end

local function command_lines(scripts)
  check_list(scripts, "list of scripts", 1, "fz.run_scripts")
  local lines = {}
  for i = 1, #scripts do
    local script = scripts[i]
    local name = ("script %d"):format(i)
    if type(script) == "string" then
      script = { script }
    else
      check_list(script, name .. ": a name or list of strings", 1, "fz.run_scripts")
    end
    script = check_words(script, name, "fz.run_scripts")
    -- so that the name is not read as an option
    if script[1]:sub(1, 1) == "-" then table.insert(script, 1, "--") end
    table.insert(script, 1, core.command or "fzlua")
    lines[i] = script
  end
  return lines
end

---@class fzlua.Scripts scripts that run in parallel
---@field running {index: integer, program: userdata}[] in the order of their start
local Scripts = {}
Scripts.__index = Scripts

function Scripts:done()
  for _, script in ipairs(self.running) do
    if script.program:done() then return true end
  end
  return false
end

function Scripts:__close()
  for _, script in ipairs(self.running) do script.program:close() end
end

-- Store the results of the scripts that have ended, and remove them from the running scripts.
local function collect(self, results)
  local running = {}
  for _, script in ipairs(self.running) do
    if script.program:done() then
      results[script.index] = script.program:result()
      script.program:close()
    else
      running[#running + 1] = script
    end
  end
  self.running = running
end

-- Run scripts in parallel, each by a separate command.
function exec.run_scripts(scripts, options)
  local lines = command_lines(scripts)
  options = check.options(options, check.SCRIPTS, 2, "fz.run_scripts")
  local jobs = math.max(options.jobs or core.cpu_count(false), 1)
  local file = core.command and core.executable()
  local results, started = {}, 0
  local batch <close> = setmetatable({ running = {} }, Scripts)
  while started < #lines or #batch.running > 0 do
    while started < #lines and #batch.running < jobs do
      started = started + 1
      table.insert(batch.running, {
        index = started,
        program = core.exec(lines[started], { file = file, timeout = options.timeout }),
      })
    end
    wait.until_done(batch)
    collect(batch, results)
  end
  return results
end

return exec
