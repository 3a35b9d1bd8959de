--- manual.lua - the entries of the reference (doc/reference.md) by name, for :help.
--
-- Each heading of the reference begins an entry. If the entry is about an object, its first list
-- has the fields of the object, and each field is also an entry.

local nearest = require "fzlua.nearest"
local text = require "fzlua.reference"

local manual = {}

---@class fzlua.ManualEntry
---@field name string "fz.map", "pool:map", "chain.output", or the title of a section
---@field text string Markdown
---@field signature string|nil of a function

local entries -- all entries, in the order of the reference

local function strip_links(markdown)
  return (markdown:gsub("%[([^%]]+)%]%(#[^)]*%)", "%1"))
end

local function add(name, body, signature)
  entries[#entries + 1] = {
    name = name, text = strip_links(body):gsub("%s+$", "") .. "\n", signature = signature,
  }
end

-- Add an entry for each field in the list of an object's entry.
local function add_fields(name, body)
  for item in ("\n" .. body):gmatch "\n%- [^\n]*" do
    local field = item:match "^\n%- `([%a_][%w_]*)`"
    local from = body:find(item:sub(2), 1, true)
    local to = body:find("\n[^ ]", from) or body:find("\n\n", from, true) or #body + 1
    if field then add(name .. "." .. field, (body:sub(from + 2, to - 1):gsub("\n  ", "\n"))) end
  end
end

local function read()
  entries = {}
  local pages = text .. "\n## "
  for marks, name, from in pages:gmatch "\n(##+) ([^\n]+)\n()" do
    local body = pages:sub(from, pages:find("\n##+ ", from - 1)):match "^\n*(.*)$"
    local signature = body:match "^`([%w_.:]+%b()[^`\n]*)`\n"
    add(name, body, signature)
    if marks == "###" and not signature then add_fields(name, body) end
  end
end

-- A name in the form for comparisons, so that "Pool.map" finds "pool:map".
local function normal(name)
  return (name:lower():gsub(":", "."))
end

-- The entry named `name`, then the entries whose last part is `name`; of these, `fz.name` is first.
local function matches(name)
  if not entries then read() end
  local wanted, list, whole = normal(name), {}, nil
  for _, entry in ipairs(entries) do
    local own = normal(entry.name)
    if own == wanted then
      whole = whole or entry
    elseif own:match "[^.]+$" == wanted then
      table.insert(list, own == "fz." .. wanted and 1 or #list + 1, entry)
    end
  end
  if whole then table.insert(list, 1, whole) end
  return list
end

-- The names most similar to `name`, which has no entry: one as a whole, and one by its last part.
local function near(name)
  local names, parts, by_part = {}, {}, {}
  for i, entry in ipairs(entries) do
    local part = entry.name:match "[^.:]+$"
    names[i] = entry.name
    if not by_part[part] then
      parts[#parts + 1] = part
      by_part[part] = entry.name
    end
  end
  local whole = nearest(name, names, true)
  local part = by_part[nearest(name:match "[^.:]*$", parts, true)]
  if part == whole or not name:find "[.:]" then return { part } end
  return { whole, part }
end

---The text of an entry, and the names of other entries.
---@param name string "fz.map", "pool:map" or "pool.map", "chain.output", "map", a section's title
---@return string|nil text nil if there is none
---@return string[] others names with the same last part; names similar to `name` if there is no
---text
function manual.find(name)
  local found = matches(name)
  if not found[1] then return nil, near(name) end
  local others = {}
  for i = 2, #found do others[i - 1] = found[i].name end
  return found[1].text, others
end

---Whether an object has a method of this name.
---@param name string
---@return boolean
function manual.has_method(name)
  for _, entry in ipairs(matches(name)) do
    if entry.signature and entry.name:find(":" .. name, 1, true) then return true end
  end
  return false
end

---The signature of a function: "fz.map(f, list [, options]) -> results".
---@param name string as for manual.find()
---@return string|nil signature
function manual.signature(name)
  local found = matches(name)[1]
  return found and found.signature
end

return manual
