--- findings.lua - the findings of --check, printed in a form that editors read.
--
--   file:line: error|warning|note: text

---@class fzlua.Finding
---@field file string
---@field line integer
---@field severity "error"|"warning"|"note"
---@field text string

---@class fzlua.Findings
local Findings = {}
Findings.__index = Findings
Findings.__name = "fzlua.Findings"

---@param file string the script, for findings without another place
---@return fzlua.Findings
function Findings.new(file)
  return setmetatable({ _file = file, _list = {}, _seen = {} }, Findings)
end

---The name of the file of a chunk.
---@param source string as debug.getinfo() returns it
---@return string
function Findings.file_of(source)
  return source:match "^[@=](.*)$" or "string"
end

---Add a finding, unless the same finding was added before.
---@param severity "error"|"warning"|"note"
---@param text string
---@param file? string by default the script
---@param line? integer by default 1
function Findings:add(severity, text, file, line)
  file, line = file or self._file, line and line > 0 and line or 1
  local key = table.concat({ file, line, text }, "\0")
  if self._seen[key] then return end
  self._seen[key] = true
  self._list[#self._list + 1] =
    { file = file, line = line, severity = severity, text = text, number = #self._list }
end

---Add a finding about a function, at the first line of the function.
---@param severity "error"|"warning"|"note"
---@param text string
---@param f function|nil
function Findings:add_at(severity, text, f)
  local info = f and debug.getinfo(f, "S")
  if not info or info.what == "C" then return self:add(severity, text) end
  self:add(severity, text, Findings.file_of(info.source), info.linedefined)
end

local function before(a, b)
  if a.file ~= b.file then return a.file < b.file end
  if a.line ~= b.line then return a.line < b.line end
  return a.number < b.number
end

---Print the findings, sorted by their positions.
---@return boolean clean whether there are no errors and no warnings
function Findings:print()
  local clean = true
  table.sort(self._list, before)
  for _, found in ipairs(self._list) do
    io.write(("%s:%d: %s: %s\n"):format(found.file, found.line, found.severity, found.text))
    clean = clean and found.severity == "note"
  end
  return clean
end

return Findings
