--- bar.lua - the text of one progress line.
--
-- On a terminal a line has a bar and fields of fixed width, as many as fit:
--
--   clean  [=====>      ]  3/8   37%  2 busy   3 waiting   1.2/s   0:12   0:20 left  1 failed
--
-- Elsewhere the line has the same fields without a bar.

local core = require "fzlua.core"

local bar = {}

---@class fzlua.ProgressLine
---@field label string
---@field total integer|nil number of items; nil: unknown
---@field done integer
---@field failed integer
---@field busy integer|nil workers that run an item; nil: not shown
---@field waiting integer|nil items that have not started; nil: not shown
---@field rate number items per second; 0: unknown
---@field seconds number seconds since the start
---@field state string|nil "done", "failed" or "cancelled"; nil: it is running

local BAR_MIN <const> = 4 -- minimum number of columns between the brackets
local GAP <const> = "  "
local RED <const>, PLAIN <const> = "\27[31m", "\27[0m"

local function ended(line)
  return line.done + line.failed
end

---Seconds as m:ss or h:mm:ss.
---@param seconds number
---@return string
function bar.time(seconds)
  local whole = seconds // 1 | 0
  local minutes, hours = whole // 60, whole // 3600
  if hours == 0 then return ("%d:%02d"):format(minutes, whole % 60) end
  return ("%d:%02d:%02d"):format(hours, minutes % 60, whole % 60)
end

-- Units and the minimum number for which each is used.
local UNITS = { { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } }

---A rate as a text: items per second, or items per minute if the rate is low.
---@param rate number
---@return string
function bar.rate(rate)
  if rate < 0.95 then return ("%.1f/min"):format(rate * 60) end
  for _, unit in ipairs(UNITS) do
    if rate >= unit[1] then return ("%.1f%s/s"):format(rate / unit[1], unit[2]) end
  end
  return ("%.1f/s"):format(rate)
end

local function count(line)
  if not line.total then return ("%d"):format(ended(line)) end
  return ("%" .. #tostring(line.total) .. "d/%d"):format(ended(line), line.total)
end

local function percent(line)
  if not line.total then return nil end
  local share = line.total == 0 and 1 or ended(line) / line.total
  return ("%3d%%"):format(100 * share // 1)
end

local function busy(line)
  return line.busy and ("%2d busy"):format(line.busy)
end

local function waiting(line)
  if not line.waiting then return nil end
  return ("%" .. #tostring(line.total or 999) .. "d waiting"):format(line.waiting)
end

local function rate(line)
  return ("%8s"):format(line.rate > 0 and bar.rate(line.rate) or "-/s")
end

local function elapsed(line)
  return ("%6s"):format(bar.time(line.seconds))
end

local function left(line)
  local items = line.total and line.total - ended(line)
  if not items then return nil end
  if line.rate <= 0 and items > 0 then return "  -:-- left" end
  local seconds = items > 0 and math.min(items / line.rate, 3599999) or 0
  return ("%6s left"):format(bar.time(seconds))
end

local function failed(line)
  return line.failed > 0 and ("%d failed"):format(line.failed)
end

local function plain_percent(line)
  return line.total and ended(line) < line.total and percent(line)
end

local function plain_left(line)
  return not line.state and left(line)
end

local function plain_rate(line)
  return line.rate > 0 and bar.rate(line.rate)
end

local function plain_elapsed(line)
  return line.seconds < 60 and ("%.1f s"):format(line.seconds) or bar.time(line.seconds)
end

-- The fields in their order: `text` for a terminal, where a field keeps its width, and `plain` for
-- the log. Fields of the highest rank are dropped first.
local FIELDS = {
  { rank = 2, text = count, plain = count },
  { rank = 1, text = percent, plain = plain_percent },
  { rank = 4, text = busy, plain = busy },
  { rank = 5, text = waiting, plain = waiting },
  { rank = 8, text = rate, plain = plain_rate },
  { rank = 7, text = elapsed, plain = plain_elapsed },
  { rank = 6, text = left, plain = plain_left },
  { rank = 3, text = failed, plain = failed, red = true },
}

-- A list of the fields that `line` has. Each field has rank, text and red.
---@param form string "text" or "plain"
local function fields_of(line, form)
  local list = {}
  for _, field in ipairs(FIELDS) do
    local text = field[form](line)
    if text then list[#list + 1] = { rank = field.rank, text = text, red = field.red } end
  end
  return list
end

local function width_of(fields)
  local width = 0
  for _, field in ipairs(fields) do width = width + #GAP + #field.text end
  return width
end

local function drop_one(fields)
  local worst = 1
  for i, field in ipairs(fields) do
    if field.rank > fields[worst].rank then worst = i end
  end
  table.remove(fields, worst)
end

---A label without control characters and broken UTF-8.
---@param label string
---@return string
function bar.label(label)
  if not utf8.len(label) then label = label:gsub("[\x80-\xff]", "?") end
  return (label:gsub("%c", "?"):gsub("\xc2[\x80-\x9f]", "?"))
end

---The beginning of `text` that is at most `columns` wide, padded with spaces.
---@param text string
---@param columns integer
---@return string
function bar.fit(text, columns)
  local width = core.text_width(text)
  while width > columns do
    text = text:sub(1, utf8.offset(text, -1) - 1)
    width = core.text_width(text)
  end
  return text .. (" "):rep(columns - width)
end

-- A bar that is `columns` wide with its brackets.
local function drawing(line, columns)
  local inner = columns - 2
  local share = line.total == 0 and 1 or math.min(ended(line) / line.total, 1)
  local filled = inner * share // 1 | 0
  local head = filled > 0 and filled < inner and 1 or 0
  return "[" .. ("="):rep(filled - head) .. (">"):rep(head) .. (" "):rep(inner - filled) .. "]"
end

local function joined(fields, colored)
  local texts = {}
  for i, field in ipairs(fields) do
    texts[i] = GAP .. (colored and field.red and RED .. field.text .. PLAIN or field.text)
  end
  return table.concat(texts)
end

---The line for a terminal, at most `columns` wide.
---@param line fzlua.ProgressLine
---@param columns integer
---@param label_width integer columns of the widest label on the screen
---@param colored boolean
---@return string
function bar.line(line, columns, label_width, colored)
  local fields = fields_of(line, "text")
  local least = line.total and BAR_MIN + 2 + #GAP or 0
  label_width = math.min(label_width, math.max(columns // 3, 1))
  while #fields > 1 and label_width + least + width_of(fields) > columns do drop_one(fields) end
  local room = columns - label_width - width_of(fields)
  if room < 0 then return bar.fit(fields[1].text:match "%S+", columns) end
  local label = bar.fit(line.label, label_width)
  if room < least or least == 0 then return label .. joined(fields, colored) end
  return label .. GAP .. drawing(line, room - #GAP) .. joined(fields, colored)
end

---The line without a bar, for a log and for the end of the work.
---@param line fzlua.ProgressLine
---@return string
function bar.plain(line)
  local texts = { line.state }
  for _, field in ipairs(fields_of(line, "plain")) do
    texts[#texts + 1] = field.text:gsub("^ +", "")
  end
  return ("%s: %s"):format(line.label, table.concat(texts, ", "))
end

return bar
