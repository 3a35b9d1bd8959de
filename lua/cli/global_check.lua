--- global_check.lua - finds globals that functions for workers set, and globals that do not exist.
--
-- If a worker sets a global, the script does not see the new value, and the value is lost when the
-- worker ends. A global that exists in the script, or that its main chunk sets, is not reported,
-- because a function may use such a global to keep a value in its worker.

local Findings = require "fzlua.findings"
local bytecode = require "fzlua.bytecode"
local nearest = require "fzlua.nearest"

---@class fzlua.GlobalCheck
local GlobalCheck = {}
GlobalCheck.__index = GlobalCheck
GlobalCheck.__name = "fzlua.GlobalCheck"

-- Globals of other versions of Lua. Scripts read them to test for the version.
local OLD <const> = {
  unpack = true, loadstring = true, setfenv = true, getfenv = true, module = true, jit = true,
  bit = true, bit32 = true,
}

---@param findings fzlua.Findings
---@return fzlua.GlobalCheck
function GlobalCheck.new(findings)
  return setmetatable({ _findings = findings, _declared = {}, _visited = {} }, GlobalCheck)
end

---Treat the globals that `f` sets as declared. With `inner`, do the same for the functions inside
---`f`.
---@param f function|nil
---@param inner? boolean
function GlobalCheck:declare(f, inner)
  if not f or debug.getinfo(f, "S").what == "C" then return end
  for _, use in ipairs(bytecode.globals(f)) do
    if use.sets and (inner or not use.inner) then self._declared[use.name] = true end
  end
end

local function exists(self, name)
  return rawget(_G, name) ~= nil or self._declared[name] or OLD[name]
end

-- The text " (the nearest name is X)" if a name is similar, else "".
local function hint(self, name)
  local names = {}
  for global in pairs(_G) do names[#names + 1] = type(global) == "string" and global or nil end
  for global in pairs(self._declared) do names[#names + 1] = global end
  table.sort(names)
  local near, distance = nearest(name, names)
  if not near or distance > math.max(1, #name // 3) then return "" end
  return (" (the nearest name is %s)"):format(near)
end

local function check_uses(self, f, file)
  local uses, sets = bytecode.globals(f), {}
  for _, use in ipairs(uses) do sets[use.name] = sets[use.name] or use.sets end
  for _, use in ipairs(uses) do
    local name = use.name
    if not exists(self, name) and use.sets then
      self._findings:add("warning", ("global %s is set in a worker and lost with it: make it local,"
        .. " or set it at the top of the script, too"):format(name), file, use.line)
    elseif not exists(self, name) and not sets[name] then
      self._findings:add("warning",
        ("global %s does not exist%s"):format(name, hint(self, name)), file, use.line)
    end
  end
  return uses
end

-- Call `visit` for the functions that `f` may call: its upvalues, and the globals that it uses.
local function each_used(f, uses, visit)
  for i = 1, math.huge do
    local name, value = debug.getupvalue(f, i)
    if not name then break end
    visit(value)
  end
  for _, use in ipairs(uses) do visit(rawget(_G, use.name)) end
end

---Check a function that workers call, and the functions of the same file that it uses.
---@param f function
function GlobalCheck:check(f)
  local info = debug.getinfo(f, "S")
  if info.what == "C" or info.source:sub(1, 7) == "@fzlua/" or self._visited[f] then return end
  self._visited[f] = true
  local uses = check_uses(self, f, Findings.file_of(info.source))
  each_used(f, uses, function(value)
    if type(value) == "function" and debug.getinfo(value, "S").source == info.source then
      self:check(value)
    end
  end)
end

return GlobalCheck
