-- scripts.lua: three scripts side by side, each an fzlua command of its own.
--
--   fzlua examples/scripts.lua [FILE]
--
-- Shows fz.run_scripts, whose results are in the order of the list, and fz.exec, which gives a
-- program its standard input and waits for its output. Neither needs a shell, so no file name has
-- to be quoted.

local fz = require "fzlua"

local here = arg[0]:match("^(.*/)") or ""
local file = arg[1] or here .. "data/packages.txt"

local function script(name, ...)
  return {here .. "scripts/" .. name .. ".lua", ...}
end

local results = fz.run_scripts({
  script("lines", file),
  script("words", file, "5"),
  script("checksum", file),
  script("lines", "/nowhere/notes.txt"),
}, {timeout = 60})

local titles = {"lines", "words", "checksum", "a file that is not there"}
for i, result in ipairs(results) do
  print(("%s: exit code %d"):format(titles[i], result.exitcode))
  for line in (result.stdout .. result.stderr):gmatch("[^\n]+") do print("  " .. line) end
end

local sorted = fz.exec({"sort", "-k2"}, {stdin = results[2].stdout, env = {LC_ALL = "C"}})
print("\nThe words again, by sort(1):")
io.write(sorted.stdout)
