--- value.lua - the value of an expression at the prompt as text for people.
--
-- Long tables are cut, pipelines are shown as pictures, and futures are shown with their state.
-- The only user function that is called is __tostring. If it raises, the value is shown as if it
-- had no __tostring, with a note.

local Error = require "fzlua.error"
local literal = require "fzlua.literal"
local style = require "fzlua.style"

local value = {}

local DEPTH <const>, ENTRIES <const>, KEYS <const>, BYTES <const> = 4, 200, 2000, 1000

local function limits(columns)
  return {
    width = columns, depth = DEPTH, entries = ENTRIES, keys = KEYS, bytes = BYTES,
    paint = style.paint,
  }
end

-- The module of fzlua with this name; nil if the script has not used it.
local function used(name)
  return package.loaded["fzlua." .. name]
end

-- A chain or dag itself, or a chain of a stage, or nil for other values.
local function as_pipeline(v)
  local chain, dag, stage = used "chain", used "dag", used "stage"
  if chain and chain.is(v) or dag and dag.is(v) then return v end
  if stage and stage.is(v) then return require("fzlua.chain").new { v } end
end
value.as_pipeline = as_pipeline

local function future_text(future, columns)
  if not future:done() then return style.paint("faint", "<future: pending>") end
  if future._state == "error" then
    local e = future._value
    local text = tostring(Error.is(e) and e.message or e):match "^[^\n]*"
    return style.paint("error", ("<future: %s>"):format(literal.safe(text)))
  end
  local values = future._values or { future._value, n = 1 }
  local texts = {}
  for i = 1, values.n do texts[i] = literal.of(values[i], limits(columns)) end
  return ("<future: %s>"):format(table.concat(texts, ", "))
end

-- A text such as "function(a, b) stdin:1".
local function function_text(f)
  local info = debug.getinfo(f, "Su")
  if info.what == "C" then return (tostring(f):gsub("builtin: ", "")) end
  local names = {}
  for i = 1, info.nparams do names[i] = debug.getlocal(f, i) or "?" end
  if info.isvararg then names[#names + 1] = "..." end
  return ("function(%s) %s:%d"):format(table.concat(names, ", "), info.short_src,
    info.linedefined)
end

-- The text that __tostring returns; nil if there is no __tostring.
local function own_text(v, columns)
  local mt = debug.getmetatable(v)
  if type(mt) ~= "table" or rawget(mt, "__tostring") == nil then return nil end
  local ok, text = pcall(tostring, v)
  if ok then return literal.safe(text) end
  local mark = style.paint("error", "(its __tostring raises an error)")
  return literal.of(v, limits(columns)) .. "  " .. mark
end

local function table_text(v, columns)
  local pipeline, future = as_pipeline(v), used "future"
  if pipeline then
    local ok, text = pcall(require "fzlua.picture".of, pipeline, columns)
    return ok and text or ("%s\n%s"):format(pipeline, style.paint("error", tostring(text)))
  end
  if future and future.is(v) then return future_text(v, columns) end
  local own = own_text(v, columns)
  if own then return own end
  local mt = debug.getmetatable(v)
  local name = type(mt) == "table" and rawget(mt, "__name")
  if type(name) == "string" and name:find "^fzlua%." then return ("<%s>"):format(name) end
  return literal.of(v, limits(columns))
end

---@param v any
---@param columns integer of a line
---@return string
function value.text(v, columns)
  local kind = type(v)
  if kind == "table" then return table_text(v, columns) end
  if kind == "function" then return style.paint("faint", function_text(v)) end
  if kind == "userdata" or kind == "thread" then
    return own_text(v, columns) or literal.safe(tostring(v))
  end
  return literal.of(v, limits(columns))
end

---The text of all results of a chunk. They are on one line if each result takes only one line.
---@param columns integer
---@param ... any
---@return string
function value.all(columns, ...)
  local texts, separator = {}, "\t"
  for i = 1, select("#", ...) do
    texts[i] = value.text((select(i, ...)), columns)
    if texts[i]:find "\n" then separator = "\n" end
  end
  return table.concat(texts, separator)
end

return value
