-- annotations.lua - reads the annotations of lua/meta, which describe all functions for users.
--
-- The files are LuaCATS definitions, for editors, too. Here they have a narrower form:
--
--   ---@meta _
--   -- TITLE of the section
--   --
--   -- its introduction, in Markdown
--
-- and then blocks of `---` lines in front of a function without body, in front of `local NAME = {}`
-- for the objects of a class, or alone for a class of options or fields. The text comes first, then
-- the tags. A further line of a tag begins like text.

local annotations = {}

-- The order of the sections.
annotations.FILES = {
  "fz", "stage", "chain", "dag", "cache", "map", "pool", "process", "exec", "queue", "lock",
  "value", "manager", "task", "progress", "values", "error", "options",
}

local OPENING <const> = { ["("] = true, ["{"] = true, ["<"] = true, ["["] = true }
local CLOSING <const> = { [")"] = true, ["}"] = true, [">"] = true, ["]"] = true }

-- Split a text after the type with which it begins. Outside of brackets, a type has a space only
-- after the colon before the result of a function.
local function split_type(text)
  local depth = 0
  for i = 1, #text do
    local c = text:sub(i, i)
    if OPENING[c] then depth = depth + 1 end
    if CLOSING[c] then depth = depth - 1 end
    if c == " " and depth == 0 and not text:sub(1, i - 1):find "[:,]$" then
      return text:sub(1, i - 1), text:sub(i + 1)
    end
  end
  return text, ""
end

-- A parameter or field: "name? type text".
local function named(text)
  local name, mark, rest = text:match "^([%w_.%[%]]+)(%??)%s+(.*)$"
  assert(name, "no name and type: " .. text)
  local kind, about = split_type(rest)
  return { name = name, optional = mark == "?", type = kind, text = about }
end

local function returned(text)
  local kind, rest = split_type(text)
  local name, about = rest:match "^(%S+)%s?(.*)$"
  return { name = assert(name, "a result without a name: " .. text), type = kind, text = about }
end

local TAGS <const> = {
  class = function(block, text)
    local name, rest = text:match "^([%w.]+)%s*(.*)$"
    block.class, block.parent = name, rest:match "^:%s*([%w.]+)"
  end,
  field = function(block, text) table.insert(block.fields, named(text)) end,
  param = function(block, text) table.insert(block.params, named(text)) end,
  ["return"] = function(block, text) table.insert(block.returns, returned(text)) end,
  overload = function() end, -- for editors; the reference has brackets in the signature
  operator = function(block, text) block.operators[text:match "^%w+"] = true end,
}

-- Join the lines that continue a tag, then read the tags.
local function read_block(lines)
  local block = { text = {}, fields = {}, params = {}, returns = {}, operators = {} }
  local tags = {}
  for _, line in ipairs(lines) do
    local tag, text = line:match "^@(%w+)%s*(.*)$"
    if tag then
      tags[#tags + 1] = { tag, text }
    elseif tags[1] then
      tags[#tags][2] = tags[#tags][2] .. " " .. line:gsub("^%s+", "")
    else
      table.insert(block.text, line)
    end
  end
  for _, tag in ipairs(tags) do
    local read = TAGS[tag[1]] or error("unknown tag @" .. tag[1])
    read(block, tag[2])
  end
  return block
end

-- Set the name of a block from the code below it: a function, or the objects of its class.
local function name_block(block, code)
  block.name, block.arguments = code:match "^function ([%w_.:]+)(%b()) end$"
  if not block.name then
    block.name = code:match "^local ([%w_]+) = {}$" or code:match "^(fz%.[%w_]+) = {}$"
  end
  if block.name == "fz" then block.name = nil end
  assert(block.name or block.class, "a comment in front of nothing: " .. code)
end

-- The parameters must be those of the function.
local function check_parameters(block)
  if not block.arguments then return end
  local names = {}
  for i, param in ipairs(block.params) do names[i] = param.name end
  local described = "(" .. table.concat(names, ", ") .. ")"
  assert(described == block.arguments,
    ("%s%s is described as %s"):format(block.name, block.arguments, described))
end

local function read_head(lines, i)
  assert(lines[i]:find "^%-%-%-@meta ", "the first line is not ---@meta")
  local head = {}
  i = i + 1
  while lines[i]:sub(1, 2) == "--" do
    head[#head + 1] = lines[i]:match "^%-%- ?(.*)$"
    i = i + 1
  end
  return { title = head[1], intro = table.move(head, 3, #head, 1, {}), entries = {} }, i
end

---Read one file: { title =, intro = lines, entries = }. An entry is a function or a class: name as
---users write it, class, parent, text (lines), fields, params, returns, operators.
---@param path string
function annotations.read(path)
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = line end
  lines[#lines + 1] = ""
  local section, from = read_head(lines, 1)
  local comment = {}
  for i = from, #lines do
    local line = lines[i]
    local text = line:match "^%-%-%-(.*)$"
    if text then
      comment[#comment + 1] = text
    elseif comment[1] then
      local ok, e = pcall(function()
        local block = read_block(comment)
        name_block(block, line)
        check_parameters(block)
        if block.name or block.fields[1] then table.insert(section.entries, block) end
      end)
      if not ok then error(("%s:%d: %s"):format(path, i, e), 0) end
      comment = {}
    elseif line:find "%S" and line ~= "return fz" and not line:find "^_G" then
      error(("%s:%d: code without a comment: %s"):format(path, i, line), 0)
    end
  end
  return section
end

---All sections, in order, and all classes by name.
---@param root string the directory above lua/
function annotations.all(root)
  local sections, classes = {}, {}
  for i, name in ipairs(annotations.FILES) do
    sections[i] = annotations.read(("%s/lua/meta/%s.lua"):format(root, name))
    for _, entry in ipairs(sections[i].entries) do
      if entry.class then classes[entry.class] = entry end
    end
  end
  return sections, classes
end

---The fields of a class, its own first, then those of its parents.
---@return table[] fields
function annotations.fields(class, classes)
  local fields, seen = {}, {}
  local at = class
  while at do
    for _, field in ipairs(at.fields) do
      if not seen[field.name] then fields[#fields + 1] = field end
      seen[field.name] = true
    end
    at = classes[at.parent]
  end
  return fields
end

return annotations
