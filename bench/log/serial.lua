-- The same as fold.lua in one process: lua5.4 serial.lua LOG BYTES

local file <close> = assert(io.open(arg[1], "rb"))
local sums = {bytes = 0}
while true do
  local piece = file:read(1 << 20)
  if not piece then break end
  piece = piece .. (file:read "L" or "")
  for status, bytes in piece:gmatch '" (%d+) (%d+)\n' do
    sums[status] = (sums[status] or 0) + 1
    sums.bytes = sums.bytes + bytes
  end
end
os.exit(sums.bytes == tonumber(arg[2]))
