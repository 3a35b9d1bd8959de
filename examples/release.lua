-- release.lua: a graph of external commands, which packs a folder and checks the package.
--
--   fzlua examples/release.lua             a small tree, made for this run
--   fzlua examples/release.lua FOLDER      the files of a folder; nothing is written there
--
--   folder -+-> files -> sums -+
--           |                  +-> check
--           +-> archive -> packed
--
-- Shows fz.exec in a fz.dag: each command starts as soon as its inputs are there, and independent
-- commands run at the same time. With `check = true` a command that fails raises an error with its
-- name and its last line, and no command that needs its result is started.

local fz = require "fzlua"

-- The standard output of a command that runs in `folder`.
local function output_of(folder, words, stdin)
  return fz.exec(words, {cwd = folder, stdin = stdin, env = {LC_ALL = "C"}, check = true}).stdout
end

local function lines(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = line end
  return list
end

local g = fz.dag()

-- One name in each line: a name with a newline becomes two names, which `sums` does not find.
g:add("files", {"folder"}, function(folder)
  return output_of(folder, {"sort"}, output_of(folder, {"find", ".", "-type", "f"}))
end)

g:add("sums", {"folder", "files"}, function(folder, files)
  return output_of(folder, {"sha256sum", "--", table.unpack(lines(files))})
end)

-- The owner and times of the files would make two packages of the same files different.
g:add("archive", {"folder"}, function(folder)
  return output_of(folder, {"tar", "--create", "--sort=name", "--mtime=@0", "--owner=0",
    "--group=0", "--numeric-owner", "."})
end)

g:add("packed", {"archive"}, function(archive)
  return output_of(nil, {"gzip", "-9n"}, archive)
end)

-- Unpack the package in a new folder and compare the sums there.
g:add("check", {"packed", "sums"}, function(packed, sums)
  local folder = output_of(nil, {"mktemp", "-d"}):gsub("\n", "")
  local _ <close> = setmetatable({}, {__close = function() fz.exec{"rm", "-r", folder} end})
  output_of(folder, {"tar", "--extract", "--gzip"}, packed)
  return output_of(folder, {"sha256sum", "--check"}, sums)
end)

-- Run the graph, and print the results and the errors of its nodes in their order.
local function report(folder)
  g:invoke({folder = folder}, {on_error = "continue", timeout = 600})
  for _, name in ipairs{"files", "sums", "archive", "packed", "check"} do
    local e, result = g.errors[name], g.output[name]
    if e then
      print(("  %-8s %s: %s"):format(name, e.kind, e.message))
    elseif name == "archive" or name == "packed" then
      print(("  %-8s %s"):format(name, #result > 0 and "ok" or "empty"))
    else
      print(("  %-8s %d lines"):format(name, #lines(result)))
    end
  end
end

local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
end

-- A tree of a few files, which is removed afterwards.
local function demonstrate()
  local folder = output_of(nil, {"mktemp", "-d"}):gsub("\n", "")
  local _ <close> = setmetatable({}, {__close = function() fz.exec{"rm", "-r", folder} end})
  output_of(folder, {"mkdir", "src", "doc"})
  for i = 1, 20 do write(("%s/src/part%02d.lua"):format(folder, i), ("return %d\n"):format(i)) end
  write(folder .. "/doc/read me.txt", ("Names may have spaces.\n"):rep(1000))

  print "a folder"
  report(folder)
  io.write("the first two sums\n", g.output.sums:sub(1, 180):match "^.*\n")

  write(folder .. "/src/two\nlines.lua", "return 0\n")
  print "\nthe folder, with a name of two lines"
  report(folder)
end

if arg[1] then report(arg[1]) else demonstrate() end
