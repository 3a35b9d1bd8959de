-- manpage.lua - writes doc/fzlua.3 from the comments of src/api/fzlua.h and the examples in
-- examples/embed/functions.c.
--
--   lua5.4 tools/manpage.lua [--check] ROOT
--
-- With --check it compares the file instead and exits 1 if it is not current. The header is a list
-- of paragraphs: a comment, and the declarations below it. A comment without declarations
-- introduces the next paragraph. An example is what follows a comment "Example: FUNCTIONS", up to
-- the next comment in the first column.

package.path = arg[0]:match "^(.-)[^/]*$" .. "?.lua;" .. package.path
local written = require "written"

local HEAD <const> = [[
.\" Made by tools/manpage.lua from src/api/fzlua.h: change that.
.Dd November 28, 2026
.Dt FZLUA 3
.Os
.Sh NAME
%s
.Nd %s
.Sh SYNOPSIS
.In fzlua.h
.Pp
.Dl cc host.c $(pkg-config --cflags --libs fzlua)
.Sh DESCRIPTION
%s
]]
local END <const> = [[
.Sh SEE ALSO
.Xr fzlua 1 ,
.Xr pkg-config 1
.Pp
The functions of Lua itself are in the Lua 5.4 Reference Manual.
The functions of
.Li fz ,
which scripts use, are in
.Pa reference.md .
]]

local checking = arg[1] == "--check"
local root = arg[checking and 2 or 1] or "."

local function read(path)
  local file = assert(io.open(path))
  return file:read "a", file:close()
end

-- The text of the comment at the start of a paragraph, and the code after it.
local function split_comment(paragraph)
  local comment, rest = paragraph:match "^/%*(.-)%*/\n?(.*)$"
  if not comment then return "", paragraph end
  return (comment:gsub("\n %* ?", "\n"):gsub("^%s+", ""):gsub("%s+$", "")), rest
end

-- A line of text must not look like a request.
local function escape(line)
  return (line:gsub("\\", "\\e"):gsub("^([.'])", "\\&%1"))
end

local function escaped(text)
  local lines = {}
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do lines[#lines + 1] = escape(line) end
  return table.concat(lines, "\n")
end

-- Prose with empty lines between its paragraphs.
local function prose(text)
  return (escaped(text):gsub("\n\n", "\n.Pp\n"):gsub("`", ""))
end

-- The names of the functions, types or macros that the code declares.
local function names_in(code)
  local names = {}
  for line in code:gsub("/%*.-%*/", ""):gmatch "[^\n]+" do
    names[#names + 1] = line:match "^typedef.-%(%*([%w_]+)%)" or line:match "^%a.-([%w_]+)%("
      or line:match "^#define ([%w_]+)" or line:match "^%a+ ([%w_]+) {"
  end
  return names
end

-- The paragraphs of the header after its preprocessor lines: a list of { text =, code =, names = }.
local function paragraphs_of(header)
  local body = header:match "\nextern \"C\" {\n#endif\n(.*)\n#ifdef __cplusplus\n}"
  body = body:gsub("\n#if defined%(__GNUC__%).-\n#endif\n", "\n")
  local list, before = {}, ""
  for paragraph in (body .. "\n\n"):gmatch "\n*(.-)\n\n" do
    local text, code = split_comment(paragraph)
    text = before .. text
    if code:find "%S" then
      code = code:gsub("FZLUA_API ", "")
      list[#list + 1] = { text = text, code = code, names = names_in(code) }
      before = ""
    else
      before = text ~= "" and text .. "\n\n" or ""
    end
  end
  return list
end

-- The functions that the header exports, in order.
local function functions_of(header)
  local list = {}
  for name in header:gmatch "\nFZLUA_API[^;]-([%w_]+)%(" do list[#list + 1] = ".Nm " .. name end
  return table.concat(list, " ,\n")
end

-- The examples, by the name of each function that they are for.
local function examples_of(source)
  local examples = {}
  for names, code in source:gmatch "/%* Example: (.-) %*/\n(.-)\n%f[/]" do
    for name in names:gmatch "[%w_]+" do examples[name] = code end
  end
  return examples
end

-- A display of code. Its empty lines get a character without a width, because lines that are really
-- empty are removed later.
local function display(code)
  code = escaped((code:gsub("%s+$", ""))):gsub("\n\n", "\n\\&\n")
  return (".Bd -literal -offset indent\n%s\n.Ed\n.Pp\n"):format(code)
end

-- The examples for these names. An example that was shown before is replaced by a reference to the
-- function that has it.
local function examples_for(names, examples, shown)
  local parts, here = {}, {}
  for _, name in ipairs(names) do
    local code = examples[name]
    if code and not shown[code] then
      parts[#parts + 1] = ".Pp\nExample:\n" .. display(code)
      shown[code], here[code] = name, true
    elseif code and not here[code] then
      parts[#parts + 1] = (".Pp\nExample: that of %s().\n"):format(shown[code])
    end
  end
  return table.concat(parts)
end

local header = read(root .. "/src/api/fzlua.h")
local about = split_comment(header)
local title, description = about:match "^.- %- (.-)%.\n+(.*)$"
local examples = examples_of(read(root .. "/examples/embed/functions.c"))
local shown = {}
local parts = { HEAD:format(functions_of(header), title, prose(description)) }
for _, each in ipairs(paragraphs_of(header)) do
  if #each.names > 0 then
    parts[#parts + 1] = (".Ss %s\n%s%s\n%s"):format(table.concat(each.names, ", "),
      display(each.code), prose(each.text), examples_for(each.names, examples, shown))
  end
end
local text = (table.concat(parts) .. END):gsub("\n\n+", "\n")

written(root .. "/doc/fzlua.3", text, "src/api/fzlua.h", checking)
