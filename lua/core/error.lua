--- error.lua - fz.Error, the error of all failures except wrong arguments.
--
-- C code makes such errors, too (core.Error is their metatable), but only this module makes their
-- text. A caller that knows the stage, the output or the item of an error sets these fields of the
-- error.

local core = require "fzlua.core"

local Error = core.Error
Error.__name = "fz.Error"
core.register_class("fz.Error", Error)

local CONTEXT = { "stage", "index", "element", "attempt", "node", "pid" }
local WORDS = {
  stage = "stage", index = "item", element = "element", attempt = "attempt", node = "node",
  pid = "pid",
}

-- A text such as "stage merge, item 3, attempt 2, pid 4711: "; empty if no field is set.
local function context_text(e)
  local texts = {}
  for _, key in ipairs(CONTEXT) do
    local value = e[key]
    if value ~= nil then texts[#texts + 1] = WORDS[key] .. " " .. tostring(value) end
  end
  return #texts > 0 and table.concat(texts, ", ") .. ": " or ""
end

local function starts_with(text, prefix)
  return text:sub(1, #prefix) == prefix
end

local OTHERS_SHOWN <const> = 3

-- A text such as "\nalso failed: slow: why; item 7: why; and 2 more", with the first line of each
-- error; empty if there is none.
local function others_text(others)
  if type(others) ~= "table" or #others == 0 then return "" end
  local parts = {}
  for i = 1, math.min(#others, OTHERS_SHOWN) do
    parts[i] = tostring(others[i]):match "^[^\n]*"
  end
  local hidden = #others - OTHERS_SHOWN
  if hidden > 0 then parts[#parts + 1] = ("and %d more"):format(hidden) end
  return "\nalso failed: " .. table.concat(parts, "; ")
end

-- A graph error gets no context, because it did not happen in a call.
function Error:__tostring()
  local message = tostring(self.message or self.kind or "error")
  if self.kind ~= "graph" then
    local output = self.output and ("output %s: "):format(self.output) or ""
    if not starts_with(message, output) then message = output .. message end
    message = context_text(self) .. message
  end
  message = message .. others_text(self.others)
  local traceback = self.traceback
  if type(traceback) ~= "string" or traceback == "" then return message end
  return message .. "\n" .. traceback
end

---Make an fz.Error from its fields. `kind` and `message` are required.
---@param fields table
---@return fz.Error
function Error.new(fields)
  return setmetatable(fields, Error)
end

---Whether `value` is an fz.Error. If `kind` is given, the error must also be of this kind.
---@param value any
---@param kind? string
---@return boolean
function Error.is(value, kind)
  if type(value) ~= "table" or getmetatable(value) ~= Error then return false end
  return kind == nil or value.kind == kind
end

---Put `what` before the message of `e`. `what` is the name of the value that caused the error.
---@param e fz.Error
---@param what string
function Error.about(e, what)
  e.message = what .. ": " .. e.message
end

---Raise an fz.Error of this kind. For a call in a wrong state the kind is "error" or "closed".
---@param kind string
---@param fmt string
function Error.raise(kind, fmt, ...)
  error(Error.new { kind = kind, message = fmt:format(...) }, 0)
end

---Raise an fz.Error of kind "graph".
---@param fields table stage, output and input, if they are known
---@param fmt string
function Error.graph(fields, fmt, ...)
  fields.kind = "graph"
  fields.message = fmt:format(...)
  error(Error.new(fields), 0)
end

return Error
