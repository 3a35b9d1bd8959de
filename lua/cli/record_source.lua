--- record_source.lua - the blocks of records that --each and --fold send to workers.
--
-- A block is a piece of one file that ends at the end of a record. The first blocks have one
-- record. Later blocks have a number of records that takes about BLOCK_SECONDS. So slow records
-- are spread over all workers, and many quick records are sent in one message. A block of a pipe
-- contains only the bytes that have arrived, because more bytes may come late.

local Error = require "fzlua.error"
local core = require "fzlua.core"
local descriptor = require "fzlua.descriptor"

local record_source = {}

local BLOCK_SECONDS <const> = 0.02 -- time in seconds that a block should take
local BLOCK_BYTES <const> = 256 << 10
local RECORDS_MAX <const> = 1 << 20
local GROWTH <const> = 8 -- maximum ratio of the lengths of a block and of the one before

---@class fzlua.RecordBlock
---@field text string the records, each with its separator; the last one may lack it
---@field records integer
---@field name string of the file
---@field line integer records of the file before the block
---@field n integer records of all files before the block
---@field position integer|nil index of its shared position

---@class fzlua.RecordSource
---@field _size integer records of the next block
---@field _mean number|nil measured seconds for a record
local Source = {}
Source.__index = Source

---@param files string[] names; "-" is standard input
---@param separator string the last byte of a record
---@param seconds number|nil the longest time that a block should take
---@param fail fun(name: string, message: string) called for a file that cannot be read; returns
---whether to go on with the next one
---@return fzlua.RecordSource
function record_source.new(files, separator, seconds, fail)
  return setmetatable({
    _files = files, _separator = separator, _fail = fail, _next = 1, _count = 0,
    _size = 1, _n = 0, _seconds = math.min(BLOCK_SECONDS, seconds or math.huge),
  }, Source)
end

-- Call f(...). If f raises, report an error about the current file. Returns whether f has
-- succeeded, and its results.
local function try(self, f, ...)
  local results = table.pack(pcall(f, ...))
  if results[1] then return table.unpack(results, 1, results.n) end
  local e = results[2]
  if not Error.is(e, "error") then error(e, 0) end
  if not self._fail(self._name, e.message) then self._next = #self._files + 1 end
  return false
end

local function open(self)
  local path = self._files[self._next]
  self._next = self._next + 1
  self._name, self._line = path, 0
  if path == "-" then path, self._name = nil, "stdin" end
  local ok, blocks = try(self, core.blocks, path, self._separator)
  self._blocks = ok and blocks or nil
end

local function close(self)
  self._blocks:close()
  self._blocks = nil
end

local function new_block(self, text, records)
  self._count = self._count + 1
  local block = {
    text = text, records = records, name = self._name, line = self._line, n = self._n,
  }
  self._line, self._n = self._line + records, self._n + records
  return block, self._count
end

---The next block and its number; nil at the end. This may wait for standard input or a pipe.
---@return fzlua.RecordBlock|nil, integer|nil
function Source:next()
  while self._blocks or self._next <= #self._files do
    if not self._blocks then
      open(self)
    else
      local ok, text, records = try(self, self._blocks.read, self._blocks, BLOCK_BYTES, self._size)
      if text then return new_block(self, text, records) end
      if text == false then
        descriptor.wait(self._blocks:fd(), "r")
      elseif not ok or text == nil then
        close(self)
      end
    end
  end
end

---Set the size of the next blocks. `seconds` is the time that `block` has taken.
---@param block fzlua.RecordBlock
---@param seconds number
function Source:measure(block, seconds)
  local mean = seconds / block.records
  self._mean = self._mean and (self._mean + mean) / 2 or mean
  local fitting = self._mean > 0 and self._seconds / self._mean or RECORDS_MAX
  self._size = math.max(1, math.floor(math.min(fitting, block.records * GROWTH, RECORDS_MAX)))
end

-- The length in bytes of the first `records` records.
local function length_of(text, separator, records)
  local at = 0
  for _ = 1, records do at = text:find(separator, at + 1, true) or #text end
  return at
end

---A new block with the records `first` to `last` of another block.
---@param block fzlua.RecordBlock
---@param first integer
---@param last integer
---@return fzlua.RecordBlock
function Source:part(block, first, last)
  local text, separator = block.text, self._separator
  return {
    text = text:sub(length_of(text, separator, first - 1) + 1, length_of(text, separator, last)),
    records = last - first + 1, name = block.name,
    line = block.line + first - 1, n = block.n + first - 1,
  }
end

return record_source
