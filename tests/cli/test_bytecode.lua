local t = ...
local tests = {}

local bytecode = require "fzlua.bytecode"

local function texts(uses)
  local list = {}
  for i, use in ipairs(uses) do
    list[i] = ("%d %s %s"):format(use.line, use.sets and "SETTABUP" or "GETTABUP", use.name)
  end
  return list
end

-- The list that luac prints, in its order: a function comes before the functions inside it.
local function listed(path)
  local list = {}
  local pipe <close> = assert(io.popen("luac5.4 -p -l -l " .. path))
  for line in pipe:lines() do
    local number, operation, name = line:match '%[(%d+)%]%s+([GS]ETTABUP)%s.*; _ENV "([^"]+)"'
    if number then list[#list + 1] = ("%s %s %s"):format(number, operation, name) end
  end
  return list
end

tests["globals and their lines are those that luac lists"] = function()
  if not os.execute "command -v luac5.4 >/dev/null" then return end
  local find <close> = assert(io.popen "find lua examples tests/pool -name '*.lua'")
  local files = 0
  for path in find:lines() do
    t.equal(texts(bytecode.globals(assert(loadfile(path)))), listed(path))
    files = files + 1
  end
  assert(files > 50)
end

tests["lines are exact in functions with many instructions and long gaps"] = function()
  local lines, expected = {}, {}
  for i = 1, 300 do
    local number = i * 3 + (i > 150 and 400 or 0)
    while #lines < number - 1 do lines[#lines + 1] = "" end
    lines[number] = ("g%d = math"):format(i % 100)
    expected[#expected + 1] = number .. " GETTABUP math"
    expected[#expected + 1] = ("%d SETTABUP g%d"):format(number, i % 100)
  end
  t.equal(texts(bytecode.globals(assert(load(table.concat(lines, "\n"))))), expected)
end

tests["other variables with the name _ENV are no globals"] = function()
  t.equal(bytecode.globals(assert(load("x = y", "", "t", {}))), {})
  local f = load [[
local _ENV = { a = b }
c = a
return function() d = c end]]
  t.equal(texts(bytecode.globals(f)), { "1 GETTABUP b" })
  t.equal(bytecode.globals(f()), {})
  t.equal(bytecode.globals(function() return 1.5, 3, "x", nil, true end), {})
end

tests["globals of functions within are marked"] = function()
  local f = load "a = 1\nlocal function f() return function() b = 2 end end"
  local uses = bytecode.globals(f)
  t.equal({ uses[1].inner, uses[2].inner, uses[2].line }, { false, true, 2 })
end

return tests
