--- typed.lua - compiles typed texts to chunks, which have the name "=stdin" as in lua.

local typed = {}

local sources = {} -- the texts of all chunks, in the order of their compilation

-- The to-be-closed variable keeps the chunk on the stack. Without it, an expression that is a call
-- would be a tail call, and an error about a wrong argument would have no line.
local RETURN <const> = "local fzlua_chunk <close> = nil return "

-- Load a text. As in lua, an expression may begin with "=".
local function load_text(text)
  local marked = text:match "^%s*=(.*)$"
  local chunk, message = load(RETURN .. (marked or text), "=stdin", "t")
  if chunk or marked then return chunk, message end
  return load(text, "=stdin", "t")
end

---Compile an expression or statements.
---@param text string
---@return function|nil chunk
---@return string|nil message
function typed.compile(text)
  local chunk, message = load_text(text)
  if not chunk then return nil, message end
  sources[#sources + 1] = text
  return chunk
end

---Compile an expression.
---@param text string
---@return function|nil chunk
---@return string|nil message
function typed.compile_expression(text)
  return load(RETURN .. text, "=stdin", "t")
end

---Whether the text is a complete chunk, or has an error that more text cannot correct.
---@param text string
---@return boolean
function typed.is_complete(text)
  if text:find "^%s*:%a" then return true end
  local chunk, message = load_text(text)
  return chunk ~= nil or not message:find "<eof>$"
end

---The text with globals for its locals; nil unless the text only sets locals, which end with it.
---@param text string
---@return string|nil assignment
---@return string|nil names of the locals
function typed.as_global(text)
  local name, parameters = text:match "^%s*local%s+function%s+([%a_][%w_]*)%s*(%(.*)$"
  if name and load("return function" .. parameters) then
    return "function " .. name .. "()", name
  end
  local names, values = text:match "^%s*local%s+([%w_, <>]+)=(.*)$"
  if not names or not load("return " .. values) then return nil end
  names = names:gsub("%s*<%s*%w+%s*>", "")
  local code = values:match "^(.-)%s*%-%-[^\n]*$"
  return names .. "=" .. (code and load("return " .. code) and code or values), names
end

-- The last typed text that defines `name`.
local function definition_of(name)
  local escaped = name:gsub("%p", "%%%0")
  for i = #sources, 1, -1 do
    local text = sources[i]
    if text:find("function%s+" .. escaped .. "%s*%(") or text:find(escaped .. "%s*=") then
      return text
    end
  end
end

---Where the function with this name was defined.
---@param name string
---@param f function
---@return string|nil text the input that defined the function, if it was typed
---@return string|nil path of the file that defines the function, if there is one
---@return integer line
function typed.source_of(name, f)
  local info = debug.getinfo(f, "S")
  local text = info.source == "=stdin" and definition_of(name) or nil
  return text, info.source:match "^@(.*)", info.linedefined
end

return typed
