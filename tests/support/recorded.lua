-- recorded.lua - files of recorded results, and scripts that use them, for tests.

local t = ...
local recorded = {}

-- A name for a store, whose files are removed after the test.
function recorded.new_path()
  local path = os.tmpname()
  os.remove(path)
  for _, suffix in ipairs { "", "-wal", "-shm" } do t.files[#t.files + 1] = path .. suffix end
  return path
end

function recorded.read(path)
  local file <close> = io.open(path)
  return file and file:read "a" or ""
end

function recorded.write(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

-- Run a script, whose functions append a letter to the file LOG. Returns the letters sorted, the
-- output and the text on standard error.
function recorded.run(script, store, ...)
  local log = recorded.new_path()
  local path = t.file([[
local function ran(letter)
  local file <close> = io.open(os.getenv "LOG", "a")
  file:write(letter)
end
]] .. script)
  local words = {}
  for i, word in ipairs { ... } do words[i] = ("'%s'"):format(word) end
  local out, err, status = t.shell(("LOG=%s $FZLUA --resume=%s %s %s"):format(log, store, path,
    table.concat(words, " ")))
  local letters = {}
  for letter in recorded.read(log):gmatch "." do letters[#letters + 1] = letter end
  table.sort(letters)
  return table.concat(letters), out, err, status
end

-- A script of two stages for run().
recorded.TWO_STAGES = [[
LIMIT = 10
local factor = 2
local function double(x) return x * factor end
function add(a, b) return a + b + LIMIT end
local one, two = fz.stage "one", fz.stage "two"
one:register("A", function(a) ran "A" return double(a) end)
one:register("B", function(b) ran "B" return b + 1 end)
two:register("C", {"A", "B"}, function(a, b) ran "C" return { add(a, b), list = { a, b } } end)
return one >> two]]

return recorded
