--- repl.lua - the prompt: reads chunks, runs them and prints their values.
--
-- The loop is in C (call_steps in cli/main.c), so that Ctrl-C can arrive at any instruction. It
-- calls step(), then the chunk that step() has returned, then step() with the results of the
-- chunk, and so on. After an error the loop calls report() and continues.

local Error = require "fzlua.error"
local Prompt = require "fzlua.prompt"
local commands = require "fzlua.commands"
local complete = require "fzlua.complete"
local core = require "fzlua.core"
local history = require "fzlua.history"
local inputs = require "fzlua.inputs"
local literal = require "fzlua.literal"
local nearest = require "fzlua.nearest"
local returned = require "fzlua.returned"
local style = require "fzlua.style"
local typed = require "fzlua.typed"
local value = require "fzlua.value"

local repl = {}

---@class fzlua.Session
---@field prompt fzlua.Prompt
---@field starts function[] chunks that run before the first prompt
---@field inputs string[] that raised no error
---@field locals table<string, boolean> names that were locals of an input and are not globals
---@field keeps boolean whether inputs come from a terminal, and go to the history; if not, values
---are printed as lua prints them, and errors go to standard error
---@field last_trace string|nil of the last error
---@field private _after function|nil gets the results of the chunk that runs
---@field private _reading boolean whether the prompt is shown
local Session = {}
Session.__index = Session

local function columns()
  return (core.term_size() or 80) - 1
end

local function padded(names)
  local width = 0
  for _, name in ipairs(names) do width = math.max(width, core.text_width(name)) end
  local list = {}
  for i, name in ipairs(names) do
    list[i] = literal.safe(name) .. (" "):rep(width - core.text_width(name) + 2)
  end
  return list, width + 2
end

local LISTED <const> = 200

-- Format names in columns.
local function listing(names)
  local list, width = padded(table.move(names, 1, math.min(#names, LISTED), 1, {}))
  local across, lines = math.max(columns() // width, 1), {}
  for i = 1, #list, across do
    lines[#lines + 1] = table.concat(list, "", i, math.min(i + across - 1, #list)):match "^.*%S"
  end
  if #names > LISTED then lines[#lines + 1] = ("... %d more"):format(#names - LISTED) end
  return table.concat(lines, "\n")
end

-- Called for Tab. Returns what all names have in common after `before`, or lists the names.
local function complete_at(before)
  local part, names, path, container = complete.find(before)
  local text = complete.common(names):sub(#part + 1)
  if text ~= "" then return text end
  if #names > 1 then
    io.write(style.paint("faint", listing(names)), "\n")
  elseif names[1] and container ~= nil then
    local signature = complete.signature(container, path, names[1])
    if signature then io.write(style.paint("faint", signature), "\n") end
  end
end

local function copy(t)
  local result = {}
  for k, v in next, t do result[k] = v end
  return result
end

-- Set the table `t` back to the contents `before`.
local function restore(t, before)
  for k in next, copy(t) do
    if before[k] == nil then t[k] = nil end
  end
  for k, v in next, before do t[k] = v end
end

---@param host table functions of cli/main.c
---@return fzlua.Session
function Session.new(host)
  complete.set_up(host, commands.names)
  local self = setmetatable({
    host = host, prompt = Prompt.new(host, complete_at), starts = {}, inputs = {}, locals = {},
    keeps = host.input_is_terminal(), _reading = false,
  }, Session)
  style.enable(self.prompt.editor ~= nil)
  for _, input in ipairs(self.keeps and history.load(host) or {}) do self.prompt:add(input) end
  self.globals, self.modules = copy(_G), copy(package.loaded)
  return self
end

---Remove all globals and modules that are newer than this session.
function Session:reset()
  restore(_G, self.globals)
  restore(package.loaded, self.modules)
  self.inputs = {}
  collectgarbage()
  collectgarbage() -- free what the finalizers of the first collection have released
end

---Print a message about an error in an input.
---@param message string
function Session:complain(message)
  local file = self.keeps and io.stdout or io.stderr
  io.stdout:flush()
  file:write(style.paint("error", message), "\n")
  return nil
end

-- Print values by the global print, which the user may have changed. lua does the same.
local function show_plain(self, ...)
  local ok, message = pcall(_G.print, ...)
  if not ok then self:complain(("error calling 'print' (%s)"):format(tostring(message))) end
end

---Print values. The first value becomes the global `_`.
---@param ... any
function Session:show(...)
  if select("#", ...) == 0 then return end
  _G._ = (...)
  if not self.keeps then return show_plain(self, ...) end
  io.write(value.all(columns(), ...), "\n")
end

---Load a file that is to be run.
---@param path string
---@return function|nil chunk
function Session:load(path)
  local chunk, message = loadfile(path)
  return chunk or self:complain(message)
end

local function note(fmt, ...)
  io.write(style.paint("faint", fmt:format(...)), "\n")
end

-- Print once in a session that a local variable ends with its input. Later, note_missing() prints
-- this after an error, for the local that is missing.
local function note_local(self, text)
  local global, names = typed.as_global(text)
  if not global or not self.keeps then return end
  if not next(self.locals) then
    note("a local variable ends with its input; for a global one write: %s", global)
  end
  for name in names:gmatch "[%a_][%w_]*" do self.locals[name] = true end
end

-- After an error: if a name in the input was a local of an earlier input, print this.
local function note_missing(self, text)
  for name in text:gmatch "[%a_][%w_]*" do
    if self.locals[name] and rawget(_G, name) == nil then
      return note("%s was a local, which ended with its input: define it without 'local'", name)
    end
  end
end

-- After an error: if the input has a name that `fz` does not have, print the nearest name in `fz`.
local function note_unknown(text)
  local fz = package.loaded.fzlua
  for name in text:gmatch "%f[%w_.]fz%.([%a_][%w_]*)" do
    if fz and fz[name] == nil then
      local _, names = complete.find "fz."
      local near = nearest(name, names)
      return note("there is no fz.%s%s", name, near and "; perhaps fz." .. near or "")
    end
  end
end

-- Inputs from which one can see that the user wants to leave or needs help.
local LEAVES <const> = { exit = true, quit = true, help = true }

local function looks_for_help(self, text)
  local name = text:match "^%s*(%a+)%s*%(?%s*%)?%s*$"
  return self.keeps and name and LEAVES[name] and rawget(_G, name) == nil
end

---Convert an input to a chunk to run, and to a function that receives the results of the chunk.
---@param text string
---@return function|nil chunk
---@return function|nil after
function Session:accept(text)
  local name, argument = text:match "^%s*:(%a+)%s*(.-)%s*$"
  if name then return commands.run(self, name, argument) end
  if looks_for_help(self, text) then return note(commands.HINT) end
  local chunk, message = typed.compile(text)
  if not chunk then return self:complain(message) end
  return chunk, function(_, ...)
    self.inputs[#self.inputs + 1] = text
    self:show(...)
    note_local(self, text)
  end
end

-- Read an input that is not empty. Returns nil at the end of the input.
local function read(self)
  local text
  self._reading = true
  repeat text = self.prompt:read() until text == nil or text:find "%S"
  self._reading = false
  if text and text ~= self.last then
    self.last = text
    self.prompt:add(text)
    if self.keeps then history.append(text) end
  end
  return text
end

local function say_pending()
  local scheduler = package.loaded["fzlua.scheduler"]
  local n = scheduler and scheduler.independent() or 0
  if n > 0 then io.write(("waiting for %d tasks; Ctrl-C ends them\n"):format(n)) end
end

---Print the results of the last chunk, and read the next chunk.
---@param ... any results
---@return function|integer chunk or the exit status at the end of the input
function Session:step(...)
  self.host.catch_interrupt()
  local after = self._after
  self._after = nil
  if after then after(self, ...) end
  local chunk = table.remove(self.starts, 1)
  if chunk then return chunk end
  while not chunk do
    local text = read(self)
    if not text then
      say_pending()
      return 0
    end
    chunk, after = self:accept(text)
  end
  self._after = after or Session.show
  return chunk
end

-- The text of an error without a traceback, and the traceback in the error.
local function text_of(e)
  if Error.is(e) then
    local plain = setmetatable({}, Error)
    for k, v in pairs(e) do plain[k] = v end
    plain.traceback = nil
    return tostring(plain), e.traceback
  end
  if type(e) == "table" and not (debug.getmetatable(e) or {}).__tostring then
    return literal.brief(e)
  end
  local ok, text = pcall(tostring, e)
  return ok and text or "(error object whose __tostring raises)"
end

-- The frames of a traceback that are in files of the user.
local function user_frames(traceback)
  local lines = {}
  for line in (traceback or ""):gmatch "\n(\t[^\n]*)" do
    if not line:find "^\t%[C%]" and not line:find "^\t%(%.%.%." then lines[#lines + 1] = line end
  end
  if #lines > 0 and lines[#lines]:find "^\tstdin:1: in main chunk" or #lines == 1
    and lines[1]:find "^\tstdin:%d+: in main chunk" then lines[#lines] = nil end
  return lines
end

---The message handler: notes the traceback, of which report() prints the user's frames.
---@param e any
---@return table
function Session:trace(e)
  local text, traceback = text_of(e)
  self.last_trace = debug.traceback(text .. (traceback and "\n" .. traceback or ""), 2)
    :gsub("\n\t%[C%]: in [^\n]*call_steps'.*$", "") -- remove the frames of this file
  return { e = e, text = text, frames = user_frames(traceback or core.traceback("", 2)) }
end

---Print an error. The session goes on after an error.
---@param noted table|string the result of trace(), or a text if the message handler failed
function Session:report(noted)
  local reading = self._reading
  self._reading, self._after = false, nil
  if type(noted) ~= "table" then noted = { text = tostring(noted), frames = {} } end
  if Error.is(noted.e, "interrupted") then
    if not reading or not self.prompt.editor then self:complain(reading and "" or "interrupted") end
    return
  end
  self:complain(literal.safe(noted.text))
  for _, line in ipairs(noted.frames) do io.write(style.paint("faint", line), "\n") end
  if not self.keeps or not self.last then return end
  note_missing(self, self.last)
  note_unknown(self.last)
end

local function init_path()
  local config, home = os.getenv "XDG_CONFIG_HOME" or "", os.getenv "HOME" or ""
  if config:sub(1, 1) == "/" then return config .. "/fzlua/init.lua" end
  return home .. "/.config/fzlua/init.lua"
end

-- The chunk of the user's file of settings, which runs before the first prompt.
local function init_chunk(self)
  local file = io.open(init_path())
  if not file then return nil end
  file:close()
  return self:load(init_path())
end

-- Run the chain that the script returned, if the command line has inputs or options for the chain.
local function run_returned(options, arguments, result)
  local pipeline = returned.as_pipeline(result)
  if not (arguments[1] or options.input or options.only or options.debug_failed) then return end
  if pipeline then
    _G._ = pipeline
    returned.run(pipeline, options, arguments)
  else
    returned.check_none(options)
    if inputs.are_in(arguments) then returned.check_forgotten(result, arguments) end
  end
end

---Read and run chunks until the end of the input.
---@param options fzlua.CommandLine
---@param arguments string[] the inputs of the chain
---@param host table functions of cli/main.c
---@param ... any what the script returned
---@return integer status
function repl.run(options, arguments, host, ...)
  local self, result = Session.new(host), ...
  self.starts[1] = init_chunk(self)
  table.insert(self.starts, function() run_returned(options, arguments, result) end)
  if select("#", ...) > 0 then _G._ = result end
  return host.call_steps(function(...) return self:step(...) end,
    function(e) return self:trace(e) end, function(e) return self:report(e) end)
end

return repl
