--- nearest.lua - finds the name that the user probably meant.

-- The number of characters to insert, delete, replace or swap to turn `a` into `b`.
local function distance(a, b)
  local before, row = {}, {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local last = row
    row = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before = last
  end
  return row[#b]
end

local NAME_MAX = 200 -- maximum number of bytes of a name that is compared

---The name in `names` that is most similar to `name`.
---@param name string
---@param names string[]
---@param always? boolean return a name even if more than half of its characters differ
---@return string|nil nearest nil if there is none
---@return integer|nil distance the number of characters that differ
return function(name, names, always)
  local best, least
  for _, other in ipairs(names) do
    local d = distance(name:sub(1, NAME_MAX):lower(), other:sub(1, NAME_MAX):lower())
    if not least or d < least then best, least = other, d end
  end
  if best and not always and 2 * least > math.max(#name, #best) then return nil end
  return best, least
end
