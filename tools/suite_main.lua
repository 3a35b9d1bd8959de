--- suite_main.lua - main.lua of the test-suite of Lua under the command: fzlua tools/suite_main.lua
-- in the folder of the suite. `make check-suite` runs it.
--
-- Parts that test intended differences, or that only a lua with readline passes, are left out.

-- The parts that are left out: { text, replacement, reason }.
local DIFFERENT <const> = {
  { 'assert(string.find(t, [[\n1 --\n2a = 2\n3\n]], 1, true))', "",
    "readline repeats its input; a lua without it falls here, too" },
  { 'NoRun(progname .. ": 6\\n", [[lua %s]], prog)', "",
    "__tostring of an error is called after the message handler" },
  { 'NoRun("error object is a table value", [[lua %s]], prog)', "",
    "a raised table is shown as a literal" },
  { 'assert(string.find(t, "PUC%-Rio\\nhello"))', 'assert(string.find(t, "Lua 5.4\\nhello"))',
    "-v prints the version of fzlua" },
  { [[NoRun("unrecognized option '-h'", "lua -h")]], "", "-h prints help" },
  { [['%s -e "%s" & echo $!']], [['env --default-signal=INT %s -e "%s" & echo $!']],
    "an interrupt that a shell ignores for its background commands stays ignored" },
}

-- Returns the text with the parts replaced. Prints the reason of each part, and whether the text
-- has it.
local function replace(text)
  for _, part in ipairs(DIFFERENT) do
    local from, to = text:find(part[1], 1, true)
    print(("%s: %s"):format(from and "left out" or "not there", part[3]))
    if from then text = text:sub(1, from - 1) .. part[2] .. text:sub(to + 1) end
  end
  return text
end

local file <close> = assert(io.open "main.lua")
assert(load(replace((file:read "a":gsub("^#[^\n]*", ""))), "@main.lua"))()
