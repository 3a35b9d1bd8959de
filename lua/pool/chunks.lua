--- chunks.lua - splits a file into pieces for imap, fold and streams. Each piece ends at the end of
--- a line.

local Error = require "fzlua.error"
local check = require "fzlua.check"

local chunks = {}

local SIZE <const> = 1 << 20

-- Read a file in pieces of about `size` bytes. Each piece ends at the end of a line.
function chunks.chunks(path, options)
  check.type(path, "string", 1, "fz.chunks")
  options = check.options(options, check.CHUNKS, 2, "fz.chunks")
  local size = options.size or SIZE
  local file, why = io.open(path, "rb")
  if not file then Error.raise("error", "fz.chunks: cannot open %s", why) end
  local function following()
    if io.type(file) ~= "file" then return nil end
    local piece, failed = file:read(size)
    if piece and piece:byte(-1) ~= 10 then piece = piece .. (file:read "L" or "") end
    if failed then Error.raise("error", "fz.chunks: cannot read %s: %s", path, failed) end
    if not piece then file:close() end
    return piece
  end
  return following, nil, nil, file
end

return chunks
