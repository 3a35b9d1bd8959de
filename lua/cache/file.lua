--- file.lua - fz.file(path): a file as an input, whose digest is that of its contents.

local core = require "fzlua.core"
local check = require "fzlua.check"

---@class fzlua.File
---@field path string
local File = { __name = "fzlua.File" }
File.__index = File

function File:__fzpack() return self.path end

local file = {
  seen = 0, -- number of files that were digested
}

core.register_class("fzlua.File", File)

function File.__fzunpack(path) return file.new(path) end

---Name a file.
---@param path string
---@return fzlua.File
function file.new(path)
  check.type(path, "string", 1, "fz.file")
  if path:find("\0", 1, true) then
    check.fail("bad argument #1 to 'fz.file' (a string without NUL bytes expected)")
  end
  return setmetatable({ path = path }, File)
end

function File:open(mode) return io.open(self.path, mode) end

function File:read()
  local stream <close>, why = io.open(self.path, "rb")
  if not stream then check.fail("%s", why) end
  local bytes
  bytes, why = stream:read "a" -- fails for a directory
  return bytes or check.fail("%s: %s", self.path, why)
end

function File:lines(...)
  local results = table.pack(pcall(io.lines, self.path, ...))
  if not results[1] then check.fail("%s", results[2]) end
  return table.unpack(results, 2, results.n)
end

function File:__tostring() return self.path end

-- fz.digest() calls this for a file: its contents decide the digest.
function File:__fzdigest()
  file.seen = file.seen + 1
  return core.digest_file(self.path)
end

return file
