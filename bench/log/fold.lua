-- Requests by status, and all bytes, of a log: fzlua -j2 fold.lua LOG BYTES
-- Exits with 1 if the sum is not BYTES, as the other programs of this folder do.

local function count(sums, piece)
  for status, bytes in piece:gmatch '" (%d+) (%d+)\n' do
    sums[status] = (sums[status] or 0) + 1
    sums.bytes = (sums.bytes or 0) + bytes
  end
  return sums
end

local function merge(a, b)
  for key, n in pairs(b) do a[key] = (a[key] or 0) + n end
  return a
end

local sums = fz.fold(count, fz.chunks(arg[1]), {}, merge)
os.exit(sums.bytes == tonumber(arg[2]))
