--- commands.lua - the commands of the prompt, which begin with a colon.
--
-- A command gets the session and a text, its argument. It may return a chunk to run, and a
-- function of the session and the chunk's results, which are printed if there is no such function.

local core = require "fzlua.core"
local nearest = require "fzlua.nearest"
local style = require "fzlua.style"
local typed = require "fzlua.typed"
local value = require "fzlua.value"

local commands = {}

-- The commands in the order of the help: { name, argument, help, function }.
local LIST = {}

local HELP <const> = [[
An expression is printed, and its first value is _. Enter ends a complete input, Alt-Enter begins
a new line. Tab completes, Ctrl-R searches the history, Ctrl-C stops what runs, Ctrl-D leaves.
]]

-- A hint for users who do not know how to leave.
commands.HINT = ":help helps, Ctrl-D leaves"

local LEAVES <const> = { quit = true, exit = true, q = true }

local function help_lines()
  local lines = { HELP }
  for _, command in ipairs(LIST) do
    lines[#lines + 1] = ("  %-16s %s"):format(
      ":" .. command[1] .. (command[2] and " " .. command[2] or ""), command[3])
  end
  return table.concat(lines, "\n") .. "\n"
end

local function list_of(title, names)
  return #names > 0 and title .. table.concat(names, ", ") .. "\n" or ""
end

local function help(_, name)
  if name == "" then
    io.write(help_lines())
    return
  end
  local text, others = require "fzlua.manual".find(name)
  if text then
    io.write(style.paint("title", name), "\n\n", text, list_of("\nSee also ", others))
  else
    io.write(("no help for %s\n"):format(name), list_of("near: ", others))
  end
end

-- Compile an expression. Returns the chunk, or prints why there is none.
local function expression(session, text)
  local chunk, message = typed.compile_expression(text)
  if text == "" then chunk, message = nil, "an expression is missing" end
  if not chunk then session:complain(message) end
  return chunk
end

local function graph(session, text)
  return expression(session, text), function(_, result)
    local pipeline = value.as_pipeline(result)
    if not pipeline then return session:complain "not a chain, stage or dag" end
    session:show(pipeline)
    local rows = pipeline.edge_table or pipeline:as_table()
    io.write(tostring(rows), "\n")
  end
end

local function time(session, text)
  local chunk = expression(session, text)
  local start, cpu = core.now(), os.clock()
  return chunk, function(_, ...)
    local seconds, used = core.now() - start, os.clock() - cpu
    session:show(...)
    io.write(style.paint("faint", ("%.3f s, %.3f s of this process"):format(seconds, used)), "\n")
  end
end

local function reset(session)
  session:reset()
end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function run_editor(path, line)
  local editor = os.getenv "VISUAL" or os.getenv "EDITOR" or "vi"
  return os.execute(("%s %s%s"):format(editor, line and ("+%d "):format(line) or "", quoted(path)))
end

-- Write a new file. Returns nil and the reason if that fails.
local function write(path, text)
  local file, why = io.open(path, "wb")
  if not file then return nil, why end
  local ok, write_why = file:write(text)
  local closed, close_why = file:close()
  if ok and closed then return true end
  return nil, ("%s: %s"):format(path, write_why or close_why)
end

-- Let the user edit a text in a temporary file. Returns the text, or nil and the reason.
local function edited(text)
  local name = os.tmpname()
  local path = name .. ".lua"
  local ok, why = write(path, text .. "\n")
  if ok then ok, why = run_editor(path), "the editor failed" end
  local result = ok and read(path)
  os.remove(path)
  os.remove(name)
  if not result then return nil, why end
  return (result:gsub("%s+$", ""))
end

local function function_of(name)
  local chunk = name:find "^[%a_][%w_.]*$" and load("return " .. name)
  local ok, f = pcall(chunk or error)
  return ok and type(f) == "function" and f or nil
end

local function edit(session, name)
  local f = function_of(name)
  local text, path, line
  if f then text, path, line = typed.source_of(name, f) end
  if path then
    if run_editor(path, line) then return session:load(path) end
    return session:complain "the editor failed"
  end
  if f and not text then return session:complain(name .. " has no source") end
  if name == "" then text = "" end
  local new, why = edited(text or ("function %s()\n\nend"):format(name))
  if not new then return session:complain(why) end
  return session:accept(new)
end

local function load_file(session, path)
  return session:load(path)
end

local function save(session, path)
  local text = table.concat(session.inputs, "\n") .. (session.inputs[1] and "\n" or "")
  local ok, why = write(path, text)
  if not ok then return session:complain(why) end
  io.write(("%d inputs written to %s\n"):format(#session.inputs, path))
end

local function trace(session)
  io.write(session.last_trace or "there was no error", "\n")
end

LIST = {
  { "help", "[NAME]", "this text, or what the manual says about NAME", help },
  { "graph", "EXPR", "the picture and the edges of a chain", graph },
  { "time", "EXPR", "the value, and how long it took", time },
  { "trace", nil, "all frames of the last error", trace },
  { "edit", "NAME", "edit the function NAME with $VISUAL or $EDITOR", edit },
  { "load", "FILE", "run a file here", load_file },
  { "save", "FILE", "write what was typed without an error to a file", save },
  { "reset", nil, "forget globals and modules that are newer than the prompt", reset },
}

---@type string[]
commands.names = {}
for i, command in ipairs(LIST) do commands.names[i] = command[1] end

---Run a command.
---@param session fzlua.Session
---@param name string
---@param argument string
---@return function|nil chunk
---@return function|nil after
function commands.run(session, name, argument)
  for _, command in ipairs(LIST) do
    if command[1] == name then return command[4](session, argument) end
  end
  local near = not LEAVES[name] and nearest(name, commands.names)
  session:complain(("there is no :%s; %s"):format(name, near and "perhaps :" .. near
    or commands.HINT))
end

return commands
