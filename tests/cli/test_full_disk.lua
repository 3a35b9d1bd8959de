-- Files that the command cannot write: the disk is full, or a limit of their size is reached.
local t = ...
local tests = {}

local function directory_of()
  local name = t.file ""
  os.remove(name)
  assert(os.execute("mkdir " .. name))
  return name
end

local PIPELINE <const> = [[
local s = fz.stage "s"
function s.y(x) return x + 1 end
function s.z(x) return x * 2 end
return fz.chain{s}]]

tests["each output to a full disk is one message with its reason, and status 1"] = function()
  local script, lines = t.file(PIPELINE), t.file "a\nb\n"
  for _, arguments in ipairs {
    "-h", "--help", "-v", "-e 'print(1) print(2)'", "%s x=1", "--json %s x=1", "--graph %s",
    "--graph=mermaid %s", "--graph=dot %s", "--inputs %s", "-n %s x=1", "--check %s",
    "--digests %s", "--each line " .. lines, "--unordered --each line " .. lines,
    "--fold 'acc[line] = acc[line] + 1' " .. lines,
  } do
    local _, err, status = t.shell(('"$FZLUA" %s >/dev/full'):format(arguments:format(script)))
    t.equal({ arguments, err, status },
      { arguments, "fzlua: cannot write standard output: No space left on device\n", 1 })
  end
end

tests["a limit of the size of files is one message, and does not end the command"] = function()
  local directory <const>, script = directory_of(), t.file(PIPELINE)
  local function limited(command)
    return (t.shell(("cd %s; (ulimit -f 0; %s; echo status $?) 2>&1 | cat")
      :format(directory, command)))
  end
  t.equal(limited '"$FZLUA" -e "print(1)" >out',
    "fzlua: cannot write standard output: File too large\nstatus 1\n")
  local out = limited(('"$FZLUA" --report r.html %s x=1'):format(script))
  t.match(out, "the report was not written: r.html: File too large\n", "z = 2\n", "status 1\n")
  out = limited(('"$FZLUA" --resume %s x=1'):format(script))
  t.match(out, "the cache .fzlua/cache.db is not used: ", "z = 2\n", "status 0\n")
  t.equal(select(2, out:gsub("\n", "")), 5)
  out = limited [["$FZLUA" -e "local f = io.open('f', 'w') f:write 'x' print(f:close())"]]
  t.equal(out, "nil\tFile too large\t27\nstatus 0\n")
  -- Programs have the default action of SIGXFSZ, which ends them.
  out = limited [["$FZLUA" -e "print(fz.exec{'sh', '-c', 'echo x >f'}.signal)"]]
  t.equal(out, "25\nstatus 0\n")
  t.shell("rm -r " .. directory)
end

tests["a trace that becomes incomplete is a warning, and the exit status is 1"] = function()
  local directory <const> = directory_of()
  local script = t.file [[
local list = {}
for i = 1, 2000 do list[i] = i end
print(#fz.map(function(x) return x end, list, {chunksize = 1}))
]]
  for _, format in ipairs { "jsonl", "json", "tsv" } do
    for _, ending in ipairs { "", "os.exit()", "os.exit(true)", "os.exit(0, 1)", "os.exit(3)" } do
      local out, err, status = t.shell(
        ([[cd %s; ulimit -f 8; "$FZLUA" --trace t.%s -e "dofile '%s' %s"]])
        :format(directory, format, script, ending))
      t.equal({ ending, out, status }, { ending, "2000\n", ending == "os.exit(3)" and 3 or 1 })
      t.match(err, "cannot write the trace t." .. format, "File too large; the trace is incomplete")
    end
  end
  t.shell("rm -r " .. directory)
end

tests["an explanation that cannot be written is status 1"] = function()
  t.equal({ t.shell [["$FZLUA" --explain -e 'print(fz.map(math.abs, {-1})[1])' 2>/dev/full]] },
    { "1\n", "", 1 })
end

return tests
