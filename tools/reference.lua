-- reference.lua - writes doc/reference.md from lua/meta.
--
--   lua5.4 tools/reference.lua [--check] ROOT
--
-- With --check it compares the file instead and exits 1 if it is not current. The command embeds
-- the text for :help, see lua/cli/manual.lua, which finds entries by their headings.

package.path = arg[0]:match "^(.-)[^/]*$" .. "?.lua;" .. package.path
local annotations = require "annotations"
local written = require "written"

local WIDTH <const> = 100
local INTRODUCTION <const> = [[
# Reference

All functions, methods, fields and options. This page is made from `lua/meta` by `make doc`: change
the text there. At the prompt, `:help NAME` prints an entry.
]]

local checking = arg[1] == "--check"
local root = arg[checking and 2 or 1] or "."
local sections, classes = annotations.all(root)

-- The anchor of a heading, as GitHub makes it.
local function anchor(heading)
  return (heading:lower():gsub("[^%w _-]", ""):gsub(" ", "-"))
end

local function link(heading)
  return ("[%s](#%s)"):format(heading, anchor(heading))
end

-- Split a type at the bars outside of brackets.
local function alternatives(kind)
  local list, from, depth = {}, 1, 0
  for i = 1, #kind do
    local c = kind:sub(i, i)
    if c:find "[({<]" then depth = depth + 1 end
    if c:find "[)}>]" then depth = depth - 1 end
    if c == "|" and depth == 0 then
      list[#list + 1] = kind:sub(from, i - 1)
      from = i + 1
    end
  end
  list[#list + 1] = kind:sub(from)
  return list
end

-- A type in words.
local function words(kind)
  local list = {}
  for i, one in ipairs(alternatives(kind)) do
    local element = one:match "^(.*)%[%]$"
    local class = classes[one]
    if element then
      list[i] = "list of " .. words(element:match "^%((.*)%)$" or element)
    elseif one:find "^%(?fun%f[%W]" then
      list[i] = "function"
    elseif one:find "^table<" or one:find "^{" or class and not class.heading then
      list[i] = "table"
    elseif class then
      list[i] = link(class.heading)
    else
      list[i] = one:find '^"' and ("`%s`"):format(one) or one
    end
  end
  return table.concat(list, " or ")
end

-- The class whose fields describe a type, if it has no heading of its own.
local function described_by(kind)
  for _, one in ipairs(alternatives(kind)) do
    local class = classes[one:match "^(.-)%[?%]?$"]
    if class and not class.name then return class end
  end
end

local out = {}

local function put(line)
  out[#out + 1] = line
end

-- Put text that is wrapped; further lines begin with `hanging`.
local function put_wrapped(line, hanging, text)
  for word in text:gmatch "%S+" do
    if #line + 1 + #word > WIDTH then
      put(line)
      line = hanging .. word
    else
      line = line .. " " .. word
    end
  end
  put(line)
end

local function put_item(indent, text)
  put_wrapped(indent .. "-", indent .. "  ", text)
end

local function item(name, kind, optional, text)
  local head = name == "..." and "`...`"
    or ("`%s` (%s%s)"):format(name, words(kind), optional and ", optional" or "")
  return text == "" and head or head .. ": " .. text
end

local function put_fields(class, indent)
  for _, field in ipairs(annotations.fields(class, classes)) do
    put_item(indent, item(field.name:match "^%[" and "[i]" or field.name, field.type, false,
      field.text))
  end
end

-- How well the description of a class fits an entry that uses it. It fits best if the class has the
-- name of the entry, as fzlua.InvokeOptions and chain:invoke, and then if the entry has no text of
-- its own about it.
local function fitness(class, entry, text)
  local noun = class.class:match "%.(%a+)Options$"
  if noun and entry.name:match ":(%a+)$" == noun:lower() then return 2 end
  return text == "" and 1 or 0
end

-- Each class without a heading is described once, at the first entry that it fits best.
local function place_classes()
  local function place(entry, list)
    for _, each in ipairs(list) do
      local class = described_by(each.type)
      local fits = class and fitness(class, entry, each.text)
      if fits and fits > (class.fits or -1) then class.place, class.fits = entry, fits end
    end
  end
  for _, section in ipairs(sections) do
    for _, entry in ipairs(section.entries) do
      place(entry, entry.params)
      place(entry, entry.returns)
    end
  end
end

local function name_headings()
  local parents = {}
  for _, class in pairs(classes) do
    if class.parent then parents[class.parent] = true end
  end
  for _, section in ipairs(sections) do
    for _, entry in ipairs(section.entries) do
      local needs_own = entry.class and not entry.place and not parents[entry.class]
      entry.heading = entry.name or needs_own and entry.class or nil
      section.used = section.used or entry.heading ~= nil
    end
  end
end

-- A reference to the entry that describes the fields of a class; nil if that is this entry.
local function elsewhere(class, entry)
  local noun = class.class:find "Options$" and "options" or "fields"
  if class.place ~= entry then return ("%s as for %s"):format(noun, link(class.place.heading)) end
  if class.described then return ("%s as for `%s`"):format(noun, class.described) end
end

-- Put a parameter or result, and the fields of its class.
local function put_described(entry, each)
  local class = described_by(each.type)
  local text, where = each.text, class and elsewhere(class, entry)
  if where then text = text == "" and where or text .. "; " .. where end
  put_item("", item(each.name, each.type, each.optional, text))
  if class and not where then
    class.described = each.name
    put_fields(class, "  ")
  end
end

local function signature(entry)
  local text = entry.name .. "("
  for i, param in ipairs(entry.params) do
    local comma = i > 1 and ", " or ""
    text = text .. (param.optional and ("%s[%s%s]"):format(i > 1 and " " or "", comma, param.name)
      or comma .. param.name)
  end
  local results = {}
  for i, result in ipairs(entry.returns) do results[i] = result.name end
  return text .. ")" .. (results[1] and " -> " .. table.concat(results, ", ") or "")
end

-- Divide the text of an entry into prose and blocks of code.
local function divide(text)
  local prose, code, inside = {}, {}, false
  for _, line in ipairs(text) do
    local fence = line:find "^```" ~= nil
    table.insert((inside or fence) and code or prose, line)
    if fence then inside = not inside end
  end
  while prose[#prose] == "" do prose[#prose] = nil end
  return prose, code
end

-- Put the names of the methods of a class.
local function put_methods(section, class)
  local names = {}
  for _, entry in ipairs(section.entries) do
    if entry.arguments and entry.name:match "^(.+)[.:]" == class.name then
      names[#names + 1] = link(entry.heading)
    end
  end
  if names[1] then
    put_wrapped("Methods:", "", table.concat(names, ", "))
    put ""
  end
end

local function put_entry(section, entry)
  put("### " .. entry.heading)
  put ""
  if entry.arguments then
    put("`" .. signature(entry) .. "`")
    put ""
  end
  local prose, code = divide(entry.text)
  for _, line in ipairs(prose) do put(line) end
  if entry.parent and classes[entry.parent].name then
    put(("It has the members of %s, too."):format(link(classes[entry.parent].heading)))
  end
  if out[#out] ~= "" then put "" end
  for _, param in ipairs(entry.params) do put_described(entry, param) end
  if not entry.arguments then
    put_fields(entry, "")
    if out[#out] ~= "" then put "" end
    put_methods(section, entry)
  end
  if entry.returns[1] then
    if out[#out] ~= "" then put "" end
    put "Returns"
    put ""
    for _, result in ipairs(entry.returns) do put_described(entry, result) end
  end
  if out[#out] ~= "" then put "" end
  for _, line in ipairs(code) do put(line) end
  if code[1] then put "" end
end

local function put_contents()
  for _, section in ipairs(sections) do
    local names = {}
    for _, entry in ipairs(section.entries) do
      if entry.arguments then names[#names + 1] = link(entry.heading) end
    end
    if section.used then
      put_item("", link(section.title) .. ": " .. table.concat(names, ", "))
    end
  end
  put ""
end

local function check_links(text)
  local anchors = {}
  for heading in text:gmatch "\n#+ ([^\n]*)" do
    local name = anchor(heading)
    assert(not anchors[name], "two headings with the anchor " .. name)
    anchors[name] = true
  end
  for target in text:gmatch "%]%(#([^)]*)%)" do
    assert(anchors[target], "no heading has the anchor " .. target)
  end
end

place_classes()
name_headings()
put(INTRODUCTION)
put_contents()
for _, section in ipairs(sections) do
  if section.used then
    put("## " .. section.title)
    put ""
    for _, line in ipairs(section.intro) do put(line) end
    if section.intro[1] then put "" end
    for _, entry in ipairs(section.entries) do
      if entry.heading then put_entry(section, entry) end
    end
  end
end
while out[#out] == "" do out[#out] = nil end
local text = table.concat(out, "\n") .. "\n"
check_links(text)

written(root .. "/doc/reference.md", text, "lua/meta", checking)
