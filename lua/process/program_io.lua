--- program_io.lua - a running program. The script writes its input and reads its output.

local check = require "fzlua.check"
local scheduler = require "fzlua.scheduler"
local wait = require "fzlua.wait"

---@class fzlua.Lines passes bytes to a function line by line
---@field sink fun(line: string) without the newline
---@field pieces string[] the pieces of the incomplete line
local Lines = {}
Lines.__index = Lines

local function complete(self, text)
  local pieces = self.pieces
  if pieces[1] == nil then return text end
  pieces[#pieces + 1] = text
  self.pieces = {}
  return table.concat(pieces)
end

function Lines:add(bytes)
  local from = 1
  local newline = bytes:find("\n", 1, true)
  while newline do
    self.sink(complete(self, bytes:sub(from, newline - 1)))
    from = newline + 1
    newline = bytes:find("\n", from, true)
  end
  if from <= #bytes then table.insert(self.pieces, bytes:sub(from)) end
end

function Lines:finish()
  if self.pieces[1] then self.sink(complete(self, "")) end
end

---@class fzlua.ProgramIO
---@field program userdata
---@field input? fun(): string|nil the next piece of input
---@field readers table<integer, fzlua.Lines> by number: 1 is standard output, 2 standard error
local ProgramIO = {}
ProgramIO.__index = ProgramIO

---@param program userdata
---@param options table of fz.exec
---@return fzlua.ProgramIO
function ProgramIO.new(program, options)
  local self = setmetatable({ program = program, input = options.stdin, readers = {} }, ProgramIO)
  for which, name in ipairs { "stdout", "stderr" } do
    if type(options[name]) == "function" then
      self.readers[which] = setmetatable({ sink = options[name], pieces = {} }, Lines)
    end
  end
  return self
end

---Whether the program has ended, has written output, or waits for input. Called by wait.lua.
---@return boolean
function ProgramIO:done()
  return self.program:ready()
end

-- The next piece of input; nil at the end. Skips empty pieces, which would mean the end.
local function next_piece(input)
  local piece
  repeat piece = input() until piece ~= ""
  if piece ~= nil and type(piece) ~= "string" then
    check.fail("bad option 'stdin' to 'fz.exec' (its iterator must return strings, not a %s)",
      check.typename(piece))
  end
  return piece
end

local function pass_on(self)
  self.passing = true
  for which, reader in pairs(self.readers) do reader:add(self.program:take(which)) end
  self.passing = false
end

---@return integer id of the object that changes before it is done; for wait.lua
function ProgramIO:id()
  return self.program:id()
end

---Pass on the output of the program while the iterator of its input waits. Called by wait.lua. The
---error of a sink is kept for the task that called run(), if another task runs now.
function ProgramIO:pump()
  if not self.feeding or self.passing then return end
  if scheduler.current() == self.task then return pass_on(self) end
  local ok, e = pcall(pass_on, self)
  if not ok then self.failed, self.error = true, e end
end

local function feed(self)
  self.feeding = true
  local piece = next_piece(self.input)
  self.feeding = false
  if self.failed then error(self.error, 0) end
  self.program:feed(piece)
end

---Pass on the output of the program until the program ends. Writes the next piece of input when
---the program has read the previous piece.
function ProgramIO:run()
  local program = self.program
  local id = program:id()
  self.task = scheduler.current()
  local _ <close> = setmetatable({}, { __close = function() wait.unwatch(id) end })
  wait.watch(id, self)
  local ended
  repeat
    wait.until_done(self)
    ended = program:done() -- check before pass_on(), which then gets all of the output
    pass_on(self)
    if program:hungry() then feed(self) end
  until ended
  for _, reader in pairs(self.readers) do reader:finish() end
end

return ProgramIO
