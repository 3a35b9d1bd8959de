--- literal.lua - any value as text in Lua's syntax. The same value gives the same text each time.
--
-- The text is meant for people: a value without a literal is shown in angle brackets, without its
-- address.

local literal = {}

local WIDTH = 78
local DEPTH_MAX, ENTRIES_MAX, KEYS_MAX = 50, 100000, math.huge
local BRIEF_ENTRIES, BRIEF_BYTES = 50, 1000
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

-- Escape bytes that are not UTF-8.
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

---A string with escapes for control characters and bytes that are not UTF-8.
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

-- read() converts a value to an item: { key text, atom } or { key text, items = list }. The field
-- `width` is the length of the item on one line, or nil if the item needs several lines.
local read

-- Add the pieces of an item to `out`, in linear time. `width` is the maximum width of a line.
local function write(out, item, indent, width)
  out[#out + 1] = item[1]
  if not item.items then
    out[#out + 1] = item[2]
    return
  end
  -- The braces and the key are not counted.
  local flat = item.inner and #indent + item.inner <= width
  local inner = indent .. "  "
  local separator = flat and ", " or ",\n" .. inner
  out[#out + 1] = flat and "{" or "{\n" .. inner
  for i, each in ipairs(item.items) do
    if i > 1 then out[#out + 1] = separator end
    write(out, each, inner, width)
  end
  out[#out + 1] = flat and "}" or ",\n" .. indent .. "}"
end

local function text_of(item, width)
  local out = {}
  write(out, item, "", width)
  return table.concat(out)
end

local function key_text(state, key)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" and not KEYWORDS[key] then
    return key .. " = "
  end
  return "[" .. text_of(read(state, "", key), state.width) .. "] = "
end

local function add(parent, item)
  local items = parent.items
  local gap = #items > 0 and 2 or 0
  items[#items + 1] = item
  parent.inner = parent.inner and item.width and parent.inner + gap + item.width or nil
end

-- Count one more entry of a table. Returns whether the entry may be shown; if not, "..." is added
-- to the table.
local function spend(state, parent)
  if state.left > 0 then
    state.left = state.left - 1
    return true
  end
  add(parent, { "", "...", width = 3 })
end

local function read_items(state, parent, value)
  local length = 0
  while rawget(value, length + 1) ~= nil do -- rawget(), because a metamethod may raise
    if not spend(state, parent) then return end
    length = length + 1
    add(parent, read(state, "", rawget(value, length)))
  end
  local keys = {}
  for key in next, value do
    if #keys >= state.keys then break end
    if not (math.type(key) == "integer" and key >= 1 and key <= length) then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, before)
  for _, key in ipairs(keys) do
    if not spend(state, parent) then return end
    add(parent, read(state, key_text(state, key), rawget(value, key)))
  end
end

local function read_table(state, key, value)
  local item = { key, items = {}, inner = 0 }
  state.ancestors[value], state.depth = true, state.depth + 1
  read_items(state, item, value)
  state.ancestors[value], state.depth = nil, state.depth - 1
  item.width = item.inner and not key:find "\n" and #key + item.inner + 2 or nil
  return item
end

-- The text of a value that is shown without entries; nil for a table with entries.
local function atom(state, value)
  local kind = type(value)
  if kind == "string" then
    if #value <= state.bytes then return quoted(value) end
    return quoted(value:sub(1, state.bytes)) .. "..."
  end
  if kind == "number" or kind == "boolean" or kind == "nil" then return tostring(value) end
  if kind ~= "table" then return "<" .. kind .. ">" end
  local mt = getmetatable(value)
  if type(mt) == "table" and rawget(mt, "__tostring") then
    local ok, text = pcall(tostring, value)
    if ok then return "<" .. literal.safe(text) .. ">" end
  end
  if state.ancestors[value] then return "<cycle>" end
  if state.depth >= state.depth_max then return next(value) == nil and "{}" or "{...}" end
end

function read(state, key, value)
  local text = atom(state, value)
  if not text then return read_table(state, key, value) end
  local lines = key:find "\n" or text:find "\n"
  local width = not lines and #key + #text or nil
  return { key, state.paint and state.paint(type(value), text) or text, width = width }
end

---@class fzlua.LiteralLimits
---@field width integer|nil columns of a line
---@field depth integer|nil maximum depth of nested tables
---@field entries integer|nil maximum number of entries of all tables together
---@field keys integer|nil maximum number of keys of a table that are read and sorted
---@field bytes integer|nil maximum number of bytes of each string
---@field paint nil|fun(kind: string, text: string): string adds colours to a value of this type

local function new_state(limits)
  return {
    ancestors = {}, depth = 0, left = limits.entries or ENTRIES_MAX,
    width = limits.width or WIDTH, depth_max = limits.depth or DEPTH_MAX,
    keys = limits.keys or KEYS_MAX, bytes = limits.bytes or math.huge, paint = limits.paint,
  }
end

---Any value as text. The depth of tables and the number of entries are limited.
---@param value any
---@param limits? fzlua.LiteralLimits
---@return string
function literal.of(value, limits)
  local state = new_state(limits or {})
  return text_of(read(state, "", value), state.width)
end

---A value as text for a message, with tighter limits than of().
---@param value any
---@return string
function literal.brief(value)
  local text = literal.of(value, { entries = BRIEF_ENTRIES, bytes = BRIEF_BYTES })
  if #text <= BRIEF_BYTES then return text end
  return text:sub(1, utf8.offset(text, 0, BRIEF_BYTES + 1) - 1) .. "..."
end

return literal
