--- typed.lua - what was typed as chunks, and their sources.
--
-- The chunks have the name "=stdin", as in lua, and their number behind a zero byte, which no
-- message shows.

local typed = {}

local sources = {} -- by number

local function load_as(text, name)
  local chunk = load("return " .. text, name, "t")
  if chunk then return chunk end
  return load(text, name, "t")
end

---Compile an expression or statements.
---@param text string
---@return function|nil chunk
---@return string|nil message
function typed.compile(text)
  local name = ("=stdin\0%d"):format(#sources + 1)
  local chunk, message = load_as(text, name)
  if not chunk then return nil, message end
  sources[#sources + 1] = text
  return chunk
end

---Compile an expression.
---@param text string
---@return function|nil chunk
---@return string|nil message
function typed.compile_expression(text)
  return load("return " .. text, "=stdin", "t")
end

---Whether the text is a chunk, or has an error that more text does not mend.
---@param text string
---@return boolean
function typed.is_complete(text)
  if text:find "^%s*:%a" then return true end
  local chunk, message = load_as(text, "=stdin")
  return chunk ~= nil or not message:find "<eof>$"
end

---Whether all that the text does is to set locals, which end with it.
---@param text string
---@return boolean
function typed.sets_local(text)
  return text:find "^%s*local%s+[%w_, ]+=[^;\n]*$" ~= nil
end

---Where a function comes from.
---@param f function
---@return string|nil text what was typed, if it was
---@return string|nil path of its file, if it is in one
---@return integer line
function typed.source_of(f)
  local info = debug.getinfo(f, "S")
  local number = info.source:match "^=stdin%z(%d+)$"
  return sources[tonumber(number)], info.source:match "^@(.*)", info.linedefined
end

return typed
