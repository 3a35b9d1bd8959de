--- literal.lua - any value as text that reads like Lua, the same bytes every time.
--
-- For people: what has no literal is named in angle brackets, without addresses.

local literal = {}

local WIDTH = 78
local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or
  repeat return then true until while]]):gmatch "%a+" do
  KEYWORDS[word] = true
end

local ESCAPES = {
  ["\a"] = "\\a", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
  ["\t"] = "\\t", ["\v"] = "\\v", ["\\"] = "\\\\", ['"'] = '\\"',
}

local function byte_escape(c)
  return ("\\x%02X"):format(c:byte())
end

-- Bytes that are no UTF-8 are escaped; where there are none nothing is.
local function valid(text)
  if utf8.len(text) then return text end
  local parts, from = {}, 1
  while from <= #text do
    local _, bad = utf8.len(text, from)
    bad = bad or #text + 1
    parts[#parts + 1] = text:sub(from, bad - 1)
    if bad <= #text then parts[#parts + 1] = byte_escape(text:sub(bad, bad)) end
    from = bad + 1
  end
  return table.concat(parts)
end

---A string as it is, but for control characters and bytes that are no UTF-8.
---@param text string
---@return string
function literal.safe(text)
  return valid((text:gsub("[^\n\t\x20-\x7e\x80-\xff]", byte_escape)))
end

local function quoted(text)
  return '"' .. valid((text:gsub('[%c\\"]', function(c) return ESCAPES[c] or byte_escape(c) end)))
    .. '"'
end

local RANK = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local ra, rb = RANK[type(a)] or 4, RANK[type(b)] or 4
  if ra ~= rb then return ra < rb end
  if ra <= 2 then return a < b end
  return tostring(a) < tostring(b)
end

local write

local function key_text(key, ancestors)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" and not KEYWORDS[key] then return key end
  return "[" .. write(key, "", ancestors) .. "]"
end

local function items_of(value, inner, ancestors)
  local items, length = {}, 0
  for i, element in ipairs(value) do
    items[i], length = write(element, inner, ancestors), i
  end
  local keys = {}
  for key in next, value do
    if not (math.type(key) == "integer" and key >= 1 and key <= length) then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, before)
  for _, key in ipairs(keys) do
    items[#items + 1] =
      key_text(key, ancestors) .. " = " .. write(rawget(value, key), inner, ancestors)
  end
  return items
end

local function write_table(value, indent, ancestors)
  if ancestors[value] then return "<cycle>" end
  ancestors[value] = true
  local inner = indent .. "  "
  local items = items_of(value, inner, ancestors)
  ancestors[value] = nil
  local line = table.concat(items, ", ")
  if #indent + #line <= WIDTH and not line:find "\n" then return "{" .. line .. "}" end
  return "{\n" .. inner .. table.concat(items, ",\n" .. inner) .. ",\n" .. indent .. "}"
end

function write(value, indent, ancestors)
  local kind = type(value)
  if kind == "string" then return quoted(value) end
  if kind == "number" or kind == "boolean" or kind == "nil" then return tostring(value) end
  if kind ~= "table" then return "<" .. kind .. ">" end
  local mt = getmetatable(value)
  if type(mt) == "table" and rawget(mt, "__tostring") then
    local ok, text = pcall(tostring, value)
    if ok then return "<" .. literal.safe(text) .. ">" end
  end
  return write_table(value, indent, ancestors)
end

---Any value as text.
---@param value any
---@return string
function literal.of(value)
  return write(value, "", {})
end

return literal
