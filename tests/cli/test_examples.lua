-- The examples print the same bytes however many functions run at once: those beside them in
-- examples/<name>.expected. FZLUA names the command under test.

local FZLUA = os.getenv "FZLUA" or "build/fzlua"

local EXAMPLES = { -- name, what follows it on the command line
  {"stages", ""},
  {"primes", ""},
  {"model", ""},
  {"diamond", ""},
  {"frames", ""},
  {"processes", ""},
  {"scripts", ""},
  {"packages", "file=examples/data/packages.txt"},
  {"pool", ""},
  {"primes_map", ""},
  {"wordcount", ""},
  {"bank", ""},
  {"ratelimit", ""},
  {"startgun", ""},
  {"producer_consumer", ""},
  {"phases", ""},
  {"histogram", ""},
  {"worklist", ""},
  {"pingpong", ""},
  {"logmerge", ""},
  {"async", ""},
  {"race", ""},
  {"progress", ""},
}
local JOBS = {0, 1, 2, 8}

local function contents(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

-- Standard output of a shell command; raises with its standard error unless it exits with 0.
local function run(command)
  local errors = os.tmpname()
  local pipe = assert(io.popen(("timeout 120 %s 2>%s </dev/null"):format(command, errors)))
  local output = pipe:read("a")
  local ok, how, code = pipe:close()
  local said = contents(errors)
  os.remove(errors)
  assert(ok, ("%s: %s %s\n%s"):format(command, how, code, said))
  return output
end

-- The first line that differs: more help than two pages of text.
local function difference(expected, got)
  local line, theirs = 1, got:gmatch("[^\n]*\n?")
  for ours in expected:gmatch("[^\n]*\n?") do
    local other = theirs()
    if ours ~= other then
      return ("line %d: expected %q, got %q"):format(line, ours, other or "nothing")
    end
    line = line + 1
  end
  return "no difference"
end

local tests = {}

for _, example in ipairs(EXAMPLES) do
  local name, arguments = example[1], example[2]
  for _, jobs in ipairs(JOBS) do
    tests[("%s_prints_what_is_expected_at_j%d"):format(name, jobs)] = function()
      local got = run(("%s -j%d examples/%s.lua %s"):format(FZLUA, jobs, name, arguments))
      local expected = contents(("examples/%s.expected"):format(name))
      assert(got == expected, difference(expected, got))
    end
  end
end

tests.graph_of_packages_is_the_same_twice = function()
  local command = FZLUA .. " --graph=mermaid examples/packages.lua"
  local picture = run(command)
  assert(picture:find("longest_chain", 1, true), "the picture lacks a function")
  assert(picture == run(command), "two pictures of one graph differ")
end

tests.packages_says_which_file_it_cannot_read = function()
  local ok, message = pcall(run, FZLUA .. " examples/packages.lua file=/nowhere/Packages")
  assert(not ok and message:find("/nowhere/Packages: No such file", 1, true), message)
  assert(message:find("load", 1, true) and message:find("text", 1, true), message)
end

tests.packages_refuses_a_file_without_packages = function()
  local ok, message = pcall(run, FZLUA .. " examples/packages.lua file=LICENSE")
  assert(not ok and message:find("LICENSE holds no packages", 1, true), message)
end

return tests
