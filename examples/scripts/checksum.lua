-- checksum.lua FILE: its Adler-32 checksum.
local file <close> = assert(io.open(arg[1], "rb"))
local a, b = 1, 0
for byte in file:read("a"):gmatch(".") do
  a = (a + byte:byte()) % 65521
  b = (b + a) % 65521
end
print(("%08x"):format(b << 16 | a))
