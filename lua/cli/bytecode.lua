--- bytecode.lua - the global variables that a Lua function reads and sets.
--
-- The module reads the bytecode of Lua 5.4. A global is a field of the upvalue that is the table
-- of globals: GETTABUP and SETTABUP with a constant. The module does not find accesses through
-- another variable, such as _G.x, and names after the 256th constant.

local bytecode = {}

---@class fzlua.GlobalUse
---@field name string
---@field line integer
---@field sets boolean whether it is assigned
---@field inner boolean whether an inner function uses it

local Reader = {}
Reader.__index = Reader

function Reader:unpack(format)
  local value
  value, self.at = string.unpack(format, self.bytes, self.at)
  return value
end

function Reader:byte()
  self.at = self.at + 1
  return self.bytes:byte(self.at - 1)
end

-- Read a number in groups of 7 bits, the highest group first. The last byte has its highest bit
-- set.
function Reader:size()
  local value = 0
  while true do
    local byte = self:byte()
    value = value << 7 | byte & 0x7f
    if byte >= 0x80 then return value end
  end
end

-- Read a string; nil if the string is missing.
function Reader:string()
  local size = self:size()
  return size > 0 and self:unpack("c" .. size - 1) or nil
end

function Reader:list(read)
  local list = {}
  for i = 1, self:size() do list[i] = read(self) or false end
  return list
end

local HEADER <const> = "\27Lua\x54\0\x19\x93\r\n\x1a\n"

-- Skip the header. Set `instruction`, `integer` and `number` to the formats of these types for
-- string.unpack().
local function read_header(self)
  if self.bytes:sub(1, #HEADER) ~= HEADER then error("not the bytecode of Lua 5.4", 0) end
  self.at = #HEADER + 1
  self.instruction = "I" .. self:byte()
  local integer, number = self:byte(), self:byte()
  self.integer, self.number = "i" .. integer, number == 8 and "d" or "f"
  self.at = self.at + integer + number + 1 -- skip two test values, and the number of upvalues
end

-- Type of a constant -> function that reads its value. Types without a value have none.
local CONSTANTS = {
  [0x03] = function(self) return self:unpack(self.integer) end,
  [0x13] = function(self) return self:unpack(self.number) end,
  [0x04] = Reader.string,
  [0x14] = Reader.string,
}

local function read_constant(self)
  local read = CONSTANTS[self:byte()]
  return read and read(self)
end

local function read_instruction(self) return self:unpack(self.instruction) end

-- Read an upvalue: whether it is a local variable of the enclosing function, and its index there.
local function read_upvalue(self)
  local upvalue = { in_stack = self:byte() ~= 0, index = self:byte() }
  self:byte() -- skip the kind of the upvalue
  return upvalue
end

local function read_pair(self) return { self:size(), self:size() } end

local function read_local(self) return self:string(), self:size(), self:size() end

local function read_function(self)
  self:string() -- skip the source
  local proto = { line = self:size() }
  self:size() -- skip the last line
  self.at = self.at + 3 -- skip parameters, vararg and stack
  proto.code = self:list(read_instruction)
  proto.constants = self:list(read_constant)
  proto.upvalues = self:list(read_upvalue)
  proto.protos = self:list(read_function)
  proto.steps = self:list(function() return self:unpack "i1" end)
  proto.absolute = self:list(read_pair)
  self:list(read_local)
  self:list(Reader.string) -- skip the names of upvalues
  return proto
end

local ABSOLUTE <const> = -0x80 -- this instruction has its line in another list

local function each_instruction(proto, visit)
  local line, absolute = proto.line, 0
  for i, instruction in ipairs(proto.code) do
    local step = proto.steps[i]
    if step == ABSOLUTE then
      absolute = absolute + 1
      line = proto.absolute[absolute][2]
    else
      line = line + (step or 0)
    end
    visit(instruction, line)
  end
end

local GETTABUP <const>, SETTABUP <const> = 11, 15

-- Add the globals of a function whose upvalue with index `env` is the table of globals.
local function add_uses(uses, proto, env, inner)
  local function add(constant, line, sets)
    uses[#uses + 1] =
      { name = proto.constants[constant + 1], line = line, sets = sets, inner = inner }
  end
  each_instruction(proto, function(instruction, line)
    local operation = instruction & 0x7f
    local a, b, c = instruction >> 7 & 0xff, instruction >> 16 & 0xff, instruction >> 24 & 0xff
    if operation == GETTABUP and b == env then
      add(c, line, false)
    elseif operation == SETTABUP and a == env then
      add(b, line, true)
    end
  end)
  for _, each in ipairs(proto.protos) do
    for i, upvalue in ipairs(each.upvalues) do
      if not upvalue.in_stack and upvalue.index == env then add_uses(uses, each, i - 1, true) end
    end
  end
end

-- The index, from 0, of the upvalue of `f` that is the table of globals; nil if there is none.
local function globals_upvalue(f)
  for i = 1, math.huge do
    local name, value = debug.getupvalue(f, i)
    if not name then return nil end
    if rawequal(value, _G) then return i - 1 end
  end
end

---The globals that `f` uses, including functions inside `f`, in the order of the code.
---@param f function of Lua
---@return fzlua.GlobalUse[]
function bytecode.globals(f)
  local uses, env = {}, globals_upvalue(f)
  if env then
    local reader = setmetatable({ bytes = string.dump(f) }, Reader)
    read_header(reader)
    add_uses(uses, read_function(reader), env, false)
  end
  return uses
end

return bytecode
