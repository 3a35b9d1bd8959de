--- run_data.lua - the data of the page of a run, as JSON.
--
-- C makes most of it (core.run_page). The page has a maximum size for any number of
-- records: surplus data is merged or left out, and a note on the page says so.

local core = require "fzlua.core"
local json = require "fzlua.json"

local run_data = {}

-- Maximum numbers: graphs on the page, bytes of a message, rows of changes, bytes of a name.
local GRAPHS_MAX <const> = 8
local MESSAGE_MAX <const> = 3000
local CHANGES_MAX <const> = 400
local NAME_MAX <const> = 160

local min = math.min

-- A string that is valid UTF-8 and not too long.
local function clean(s, most)
  if #s <= most and utf8.len(s) then return s end
  local is_long, parts, at = #s > most, {}, 1
  s = s:sub(1, most + 4) -- a few more bytes, because the last character may be cut
  while true do
    local _, bad = utf8.len(s, at)
    if not bad then break end
    parts[#parts + 1] = s:sub(at, bad - 1) .. "\u{FFFD}"
    at = bad + 1
  end
  parts[#parts + 1] = s:sub(at)
  s = table.concat(parts)
  if #s <= most and not is_long then return s end
  local last = utf8.offset(s, 0, min(most, #s)) -- offset of the character that crosses the limit
  return s:sub(1, last - 1) .. "…"
end

-- The rows of chain:changes(), with the fields of each value as one text.
local function cut_changes(rows)
  local list = {}
  for i = 1, min(#rows, CHANGES_MAX) do
    local row = rows[i]
    list[i] = {
      stage = clean(row.stage_name, NAME_MAX), name = clean(row.name, NAME_MAX),
      change = row.change, type = clean(row.type, NAME_MAX), bytes = row.bytes, rows = row.rows,
      columns = row.columns, was = row.was,
      names = row.names and clean(table.concat(row.names, ", "), NAME_MAX),
    }
  end
  return list, #rows > CHANGES_MAX
    and ("The first %d of %d."):format(CHANGES_MAX, #rows) or nil
end

---@class fzlua.RunPlan the graph of an invoke or a stream
---@field graph userdata of the engine
---@field names userdata by node
---@field layers integer[]|nil by pool: the number of its stage; nil: a dag
---@field window integer|nil of a stream: how many items are under way
---@field is_window_fixed boolean|nil whether the script has set `window`

---@class fzlua.RunWindow how many items are under way
---@field limit integer
---@field is_fixed boolean whether the script has set it

---@class fzlua.RunSource
---@field records table a list of fzlua.TraceEvent
---@field page_records userdata the same for core.run_page
---@field plans fzlua.RunPlan[]
---@field call_names table<string, boolean> names of maps and calls of pools
---@field environment string[][] names and texts
---@field title string
---@field jobs integer|nil
---@field processors integer|nil of this machine
---@field windows table<string, fzlua.RunWindow>|nil by name: of imaps and folds
---@field script_cpu number|nil processor seconds of the script's process
---@field run_cpu number|nil the part of script_cpu between the first record and the last one
---@field load {busy: number, seconds: number}|nil processor seconds of all programs of this machine
---since the trace was opened, and the seconds since then
---@field changes table[]|nil rows of chain:changes()

---The data of the page, whose size is bounded.
---@param source fzlua.RunSource
---@return string JSON without "<"
function run_data.text(source)
  local rest = { title = clean(source.title, NAME_MAX), environment = {} }
  for i, fact in ipairs(source.environment) do
    rest.environment[i] = { clean(fact[1], NAME_MAX), clean(fact[2], MESSAGE_MAX) }
  end
  local plans = source.plans
  local text = core.run_page(source.page_records,
    table.move(plans, 1, min(#plans, GRAPHS_MAX), 1, {}))
  if source.changes then
    local note
    rest.changes, note = cut_changes(source.changes)
    if note then text = text .. ',"changes":' .. json.encode(note) end
  end
  -- The text ends with the open object of the notes.
  return text .. "}," .. json.encode(rest):sub(2):gsub("<", "\\u003c")
end

return run_data
