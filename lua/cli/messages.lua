--- messages.lua - the messages of the command on standard error, and the exit status of an error.

local Error = require "fzlua.error"
local core = require "fzlua.core"

local messages = { OK = 0, FAILED = 1, WRONG_USE = 2, INTERRUPTED = 130 }

local function message_of(e) return e.message end

-- Errors of wrong use: the message is printed without a traceback, and the exit status is 2.
local Misuse = { __tostring = message_of }

-- Errors without a traceback: only the message is printed, and the exit status is 1.
local Failure = { __tostring = message_of }

local RED <const>, YELLOW <const>, PLAIN <const> = "\27[31m", "\27[33m", "\27[0m"

-- A message in colour if standard error is a terminal. A traceback is not coloured.
local function colored(text)
  if not core.term_size() or (os.getenv "NO_COLOR" or "") ~= "" then return text end
  local color = text:find "^warning: " and YELLOW or RED
  local start = text:find("\nstack traceback:", 1, true) or #text + 1
  return color .. text:sub(1, start - 1) .. PLAIN .. text:sub(start)
end

---Print a message.
---@param text string
function messages.complain(text)
  io.stderr:write("fzlua: ", colored(text), "\n")
end

---Raise an error without a traceback.
---@param message string
function messages.fail(message)
  error(setmetatable({ message = message }, Failure), 0)
end

---Raise an error of wrong use. Each line of the text is a message.
---@param fmt string
function messages.misuse(fmt, ...)
  error(setmetatable({ message = fmt:format(...) }, Misuse), 0)
end

-- Kinds of errors that calls in the script itself may raise.
local OWN = { error = true, closed = true, unsendable = true, memory = true }

-- Whether the error was raised in the script itself. Others say where, or have a traceback.
local function is_own(e)
  return OWN[e.kind] and not (e.traceback or e.unreached or e.pid or e.stage
    or e.output or e.index)
end

-- The name of the module that -l is loading, or false.
local loading = false

---Note that -l begins to load a module, or (with false) that the module is loaded.
---@param name string|false
function messages.set_loading(name)
  loading = name
end

-- The error of require() in one line, if the module that -l loads is missing or broken; else nil.
local function loading_error(e)
  local missing = ("module '%s' not found"):format(loading)
  local broken = ("error loading module '%s'"):format(loading)
  if e:sub(1, #missing) == missing then return missing end
  if e:sub(1, #broken) == broken then return (e:gsub("\n%s*", " ")) end
end

-- The traceback of an error. If a task has raised the error, its frames come first. If fzlua.origin
-- is not loaded, no task has run.
local function extended(e, traceback)
  local origin = package.loaded["fzlua.origin"]
  return origin and origin.extend(e, traceback) or traceback
end

-- The text of an error that has no traceback, with the traceback of the script.
local function traced(e, text, traceback)
  traceback = extended(e, traceback)
  return traceback and text .. "\n" .. traceback or text
end

---The message handler. Like lua5.4, it adds a traceback to a text, and does not change an object
---with __tostring.
---@param e any
---@return any
function messages.traceback(e)
  local message = loading and type(e) == "string" and loading_error(e)
  if message then return setmetatable({ message = message }, Failure) end
  if type(e) == "string" or type(e) == "number" then
    return traced(e, tostring(e), core.traceback(nil, 2))
  end
  if Error.is(e) then
    if is_own(e) then e.traceback = extended(e, core.traceback(nil, 2)) end
    return e
  end
  local mt = debug.getmetatable(e)
  if mt == Misuse or mt == Failure then return e end
  if type(mt) == "table" and mt.__tostring then return e end
  local ok, text = pcall(require "fzlua.literal".brief, e)
  if type(e) ~= "table" or not ok then text = ("(error object is a %s value)"):format(type(e)) end
  return traced(e, text, core.traceback(nil, 2))
end

-- After an error of the script: end its tasks, so that their <close> variables are closed, and log
-- the errors of the tasks.
local function drop_tasks()
  local task, future = package.loaded["fzlua.task"], package.loaded["fzlua.future"]
  if task then pcall(task.cancel_all) end
  if future then pcall(future.log_unawaited) end
end

---The exit status of an error.
---@param e any
---@return integer
function messages.status(e)
  if Error.is(e, "interrupted") then return messages.INTERRUPTED end
  return getmetatable(e) == Misuse and messages.WRONG_USE or messages.FAILED
end

---Print an error that ended the script.
---@param e any
---@return integer status
function messages.error(e)
  drop_tasks()
  local status = messages.status(e)
  if status ~= messages.FAILED then
    messages.complain((e.message:gsub("\n", "\nfzlua: ")))
  else
    local ok, text = pcall(tostring, e)
    messages.complain(ok and text or "(error object whose __tostring raises)")
  end
  return status
end

return messages
