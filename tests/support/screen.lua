-- A terminal for tests: interprets what a program writes to one, as xterm does.
--
--   local screen = Screen.new(80, 24)
--   screen:write(bytes)          -- any part of a sequence
--   screen:text(row)             -- a row, from 1, without spaces at its end
--   screen.history               -- the rows that have scrolled out at the top
--   screen.cells[row]            -- the characters of a row; it moves with the row

local core = require "fzlua.core"

local Screen = {}
Screen.__index = Screen

-- Each row has the number of its last column as `n`, and its text as `text` until it changes.
local function blank() return { n = 0, text = false } end

function Screen.new(columns, rows)
  local self = setmetatable({
    columns = columns, rows = rows, row = 1, column = 1, wraps = false, cells = {}, history = {},
    rest = "",
  }, Screen)
  for i = 1, rows do self.cells[i] = blank() end
  return self
end

local function row_text(cells)
  if not cells.text then
    for i = 1, cells.n do cells[i] = cells[i] or " " end
    cells.text = table.concat(cells, "", 1, cells.n):gsub(" +$", "")
  end
  return cells.text
end

function Screen:text(row) return row_text(self.cells[row]) end

-- All rows that were ever written, without the empty ones at the end.
function Screen:all()
  local list = table.move(self.history, 1, #self.history, 1, {})
  for i = 1, self.rows do list[#list + 1] = self:text(i) end
  while list[#list] == "" do list[#list] = nil end
  return list
end

function Screen:newline()
  self.wraps = false
  if self.row < self.rows then
    self.row = self.row + 1
    return
  end
  self.history[#self.history + 1] = row_text(table.remove(self.cells, 1))
  self.cells[self.rows] = blank()
end

function Screen:put(char)
  local width = #char == 1 and 1 or core.text_width(char)
  if self.wraps or self.column + width - 1 > self.columns then
    self:newline()
    self.column = 1
  end
  local cells, column = self.cells[self.row], self.column
  cells[column], cells.text = char, false
  for i = 1, width - 1 do cells[column + i] = "" end
  column = column + width
  if cells.n < column - 1 then cells.n = column - 1 end
  self.wraps = column > self.columns
  self.column = self.wraps and self.columns or column
end

local function erase(cells, from)
  for i = from, cells.n do cells[i] = nil end
  cells.n, cells.text = math.min(cells.n, from - 1), false
end

-- final letter of a sequence -> function of the screen and the number in the sequence
local SEQUENCES = {
  A = function(self, n) self.row = math.max(self.row - n, 1) end,
  B = function(self, n) self.row = math.min(self.row + n, self.rows) end,
  K = function(self) erase(self.cells[self.row], self.column) end,
  J = function(self)
    erase(self.cells[self.row], self.column)
    for i = self.row + 1, self.rows do self.cells[i] = blank() end
  end,
  L = function(self, n)
    for _ = 1, n do
      table.insert(self.cells, self.row, blank())
      self.cells[self.rows + 1] = nil
    end
    self.column = 1
  end,
  m = function() end,
}

local CONTROLS = {
  ["\n"] = function(self) self:newline() end,
  ["\r"] = function(self) self.column, self.wraps = 1, false end,
  ["\t"] = function(self)
    self.column = math.min((self.column + 7) // 8 * 8 + 1, self.columns)
  end,
  ["\7"] = function() end,
}

-- The length of the character or sequence at the start of `text`; nil: it is incomplete.
local function length(text)
  if text:sub(1, 1) == "\27" then return select(2, text:find "^\27%[[%d;?]*%a") end
  local n = #text:match "^[^\x80-\xbf]?[\x80-\xbf]*"
  if text:byte() < 0x80 then return 1 end
  local need = text:byte() >= 0xf0 and 4 or text:byte() >= 0xe0 and 3 or 2
  return n >= need and need or nil
end

-- Interpret one character or sequence.
function Screen:interpret(text)
  local count, letter = text:match "^\27%[(%d*)[%d;]*(%a)$"
  if letter then
    local sequence = SEQUENCES[letter] or error(("the screen does not know %q"):format(text))
    if letter ~= "m" then self.wraps = false end
    sequence(self, tonumber(count) or 1)
  elseif CONTROLS[text] then
    CONTROLS[text](self)
  elseif text:find "^%c" then
    error(("the screen does not know %q"):format(text))
  else
    self:put(text)
  end
end

-- Interpret printable ASCII. Returns its length.
function Screen:write_run(bytes, at, each, watched)
  local stop = select(2, bytes:find("^[ -~]*", at))
  for i = at, stop do
    self:put(bytes:sub(i, i))
    if each and watched[self.cells[self.row]] then each() end
  end
  return stop - at + 1
end

---Interpret bytes.
---@param bytes string
---@param each? fun() called after each control character or sequence, and after each character in a
---row of `watched`
---@param watched? table<table, boolean> cells of rows
function Screen:write(bytes, each, watched)
  bytes = self.rest .. bytes
  local at = 1
  while at <= #bytes do
    at = at + self:write_run(bytes, at, each, watched)
    local n = at <= #bytes and length(bytes:sub(at, at + 31))
    if not n then break end
    self:interpret(bytes:sub(at, at + n - 1))
    if each then each() end
    at = at + n
  end
  self.rest = bytes:sub(at)
end

---Run a script on a terminal of this size, which script(1) makes.
---@param t table of run.lua
---@param options? table flags of the command, env: a command before it, no_color
---@return string bytes that the terminal got
---@return integer status
function Screen.run(t, columns, rows, script, options)
  options = options or {}
  local command = ("%s '%s' %s '%s'"):format(options.env or "env", t.fzlua, options.flags or "",
    t.file(script))
  if options.shell then command = t.file(("set -m; %s\n%s"):format(command, options.shell)) end
  local out, _, status = t.shell((
    "%s TERM=xterm NO_COLOR=%s timeout -k 1 50 script -qec %q /dev/null %s"
  ):format(options.keys and ("(%s) |"):format(options.keys) or "", options.no_color or "",
    ("stty rows %d cols %d; exec %s"):format(rows, columns,
      options.shell and "bash " .. command or command),
    options.keys and "" or "</dev/null"))
  return out, status
end

return Screen
