-- C modules of other projects load in the script and in its workers, and work beside fzlua. The
-- tests of the installed module also run this file.

local t = ...

-- A module, an expression that uses it as `m`, and the value of the expression.
local USES <const> = {
  { "lpeg", "m.match(m.C(m.R('az')^1), 'word 1')", "word" },
  { "cjson", "m.encode({1, 2, m.null})", "[1,2,null]" },
  { "lfs", "m.attributes('/', 'mode')", "directory" },
  { "socket", "m.dns.toip('127.0.0.1')", "127.0.0.1" },
  { "luasql.sqlite3", "m.sqlite3():connect(':memory:'):execute('select 6 * 7'):fetch()", "42" },
  { "posix.unistd", "m.getpid() > 1", "true" },
}

-- The module is loaded in the script, in a worker that inherits it, or in the worker alone.
local CODE <const> = [[
local fz = require "fzlua"
local function use() local m = require %q return tostring(%s) end
if %s then require %q end
print(fz.map(use, {1, 2}, {jobs = 2})[2], use())]]

local tests = {}

for _, case in ipairs(USES) do
  local name, use, value = table.unpack(case)
  if os.execute(("lua5.4 -l %s -e '' 2>/dev/null"):format(name)) then
    tests[name:gsub("%W", "_") .. "_works_in_script_and_workers"] = function()
      for _, first in ipairs { "true", "false" } do
        local script = t.file(CODE:format(name, use, first, name))
        local out, err, status = t.command(script)
        t.equal({ out, err, status }, { value .. "\t" .. value .. "\n", "", 0 })
      end
    end
  end
end

tests.a_module_that_is_loaded_twice_is_the_same = function()
  local script = t.file [[
local fz = require "fzlua"
print(require "fzlua" == fz, package.loaded.fzlua == fz)
package.loaded.fzlua = nil
print(pcall(require, "fzlua"))]]
  local out, err, status = t.command(script)
  t.match(out, "true\ttrue\n", "\ntrue\ttable: ")
  t.equal({ err, status }, { "", 0 })
end

return tests
