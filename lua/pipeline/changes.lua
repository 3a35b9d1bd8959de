--- changes.lua - chain:changes(): what each stage of the last invoke did to the values.

local check = require "fzlua.check"
local core = require "fzlua.core"
local tables = require "fzlua.tables"

local changes = {}

local COLUMNS <const> = { "stage_id", "stage_name", "name", "change", "type", "bytes", "rows",
  "columns", "was" }

-- The sorted fields of all records of a list; nil if an element is not a record.
local function fields_of(list, n)
  local seen, names = {}, {}
  for i = 1, n do
    local record = list[i]
    if type(record) ~= "table" or record[1] ~= nil then return nil end
    for name in next, record do
      if type(name) ~= "string" then return nil end
      if not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
  end
  table.sort(names)
  return names[1] and names
end

-- Type, size and shape of a value.
local function measure(value)
  local is = { type = check.typename(value) }
  local ok, bytes = pcall(core.encode, value)
  is.bytes = ok and #bytes or nil
  if type(value) ~= "table" then return is end
  local n = math.type(rawget(value, "n")) == "integer" and value.n or rawlen(value)
  if n <= 0 or n > rawlen(value) + (2 << 20) then return is end
  is.rows, is.names = n, fields_of(value, n)
  is.columns = is.names and #is.names
  return is
end

-- The digests and measures of values. Each is computed only once.
local Values = {}
Values.__index = Values

function Values:measure(value)
  if value == nil then return { type = "nil" } end
  self.measures[value] = self.measures[value] or measure(value)
  return self.measures[value]
end

local function digest(self, value)
  if not self.digests[value] then
    local ok, made = pcall(core.digest_in, {}, value)
    self.digests[value] = ok and made or {} -- a new table, which equals no other digest
  end
  return self.digests[value]
end

function Values:same(a, b)
  if a == nil or b == nil then return a == b end
  return rawequal(a, b) or digest(self, a) == digest(self, b)
end

local function shape(is)
  if is.columns then return ("%d x %d"):format(is.rows, is.columns) end
  return is.rows and tostring(is.rows) or is.bytes and is.bytes .. " B" or is.type
end

local function add(rows, values, id, stage, name, change, value, before)
  local is = values:measure(value)
  rows[#rows + 1] = {
    stage_id = id, stage_name = stage, name = name, change = change, type = is.type,
    bytes = is.bytes, rows = is.rows, columns = is.columns, names = is.names,
    was = before ~= nil and change == "changed" and shape(values:measure(before)) or nil,
  }
end

local function sorted_names(t)
  local names = {}
  for name in next, t do
    if type(name) == "string" then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

-- Add the rows of one stage: first its outputs in the order of registration, then the other values
-- sorted by name.
local function add_stage(rows, values, id, name, layer, before, after)
  local made = {}
  for _, each in ipairs(layer.made) do
    local old, new = before[each.name], after[each.name]
    made[each.name] = true
    add(rows, values, id, name, each.name,
      old == nil and "added" or values:same(old, new) and "same" or "changed", new, old)
  end
  for _, other in ipairs(sorted_names(before)) do
    if not made[other] then
      add(rows, values, id, name, other, after[other] ~= nil and "passed" or "dropped",
        before[other])
    end
  end
end

---@param plan fzlua.Plan
---@param names string[] of the stages
---@param layers table[] the values that left each stage
---@param input table
---@return fzlua.Table
function changes.rows(plan, names, layers, input)
  local rows = tables.new(COLUMNS)
  local values = setmetatable({ measures = {}, digests = {} }, Values)
  for _, name in ipairs(sorted_names(input)) do
    add(rows, values, -1, "", name, "input", input[name])
  end
  local before = input
  for id, layer in ipairs(plan.layers) do
    add_stage(rows, values, id - 1, names[id], layer, before, layers[id])
    before = layers[id]
  end
  return rows
end

return changes
