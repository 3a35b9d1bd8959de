--- progress.lua - the lines of progress = true: one for each map, loop, dag and stage of a chain.
--
-- A panel has the lines that start and end together: the line of a map, or the lines of the stages
-- of a chain. The counts of a panel are set just before they are shown, so that single items cost
-- nothing. On a terminal the lines of all panels stay below the output, and a timer draws them
-- again. Elsewhere the lines are written to the log every few seconds. When a panel ends, it
-- prints each of its lines as plain text.
--
-- Only the process of the script shows progress, not a worker.

local Error = require "fzlua.error"
local bar = require "fzlua.bar"
local core = require "fzlua.core"
local defaults = require "fzlua.defaults"
local wait = require "fzlua.wait"

local progress = {}

-- Seconds between two drawings on a terminal, seconds between two entries of a panel in the log,
-- and seconds over which a rate is averaged.
local DRAW <const>, LOG <const>, AVERAGE <const> = 0.1, 5, 5
local LEFT_MAX <const> = 20 -- maximum number of lines that a panel prints when it ends

---@class fzlua.ProgressPanel
---@field lines fzlua.ProgressLine[]
local Panel = {}
Panel.__index = Panel

local panels = {} -- all panels, in the order of their starts
local ticker = nil -- the ticker; nil until the first use
local due = 0 -- time of the next drawing

-- Whether this process is not a worker.
local function is_script()
  local pid, main = core.pid()
  return pid == main
end

local function is_colored()
  return (os.getenv "NO_COLOR" or "") == ""
end

-- Update the rate of a line: a moving average of the items that ended since the last sample.
local function estimate(line, now, seconds)
  local ended, passed = line.done + line.failed, now - line.at
  if passed <= 0 then return end
  local weight = math.max(1 - math.exp(-passed / AVERAGE), passed / math.max(seconds, passed))
  line.rate = line.rate + weight * ((ended - line.before) / passed - line.rate)
  line.before, line.at = ended, now
end

-- Set the counts of a panel. Returns false if what it counts was collected or closed.
local function sample(panel)
  local counted, now = panel.counted[1], core.now()
  if counted == nil then return false end
  local ok, e = pcall(panel.sample, panel.lines, counted)
  if not ok and Error.is(e, "interrupted") then error(e, 0) end
  if not ok then return false end
  for _, line in ipairs(panel.lines) do
    line.seconds = now - panel.start
    estimate(line, now, line.seconds)
  end
  return true
end

local function sample_all()
  for _, panel in ipairs { table.unpack(panels) } do
    if not sample(panel) then panel:finish() end
  end
end

-- The first lines of all panels, at most `most`, and the number of the remaining lines.
local function visible_lines(most)
  local lines, more = {}, 0
  for _, panel in ipairs(panels) do
    for _, line in ipairs(panel.lines) do
      if #lines < most then lines[#lines + 1] = line else more = more + 1 end
    end
  end
  return lines, more
end

local function draw(columns, rows)
  local lines, more = visible_lines(math.max(rows - 3, 1))
  local label_width, texts, colored = 0, {}, is_colored()
  for _, line in ipairs(lines) do
    label_width = math.max(label_width, core.text_width(line.label))
  end
  -- Keep the last column empty, because a terminal may wrap after a character there.
  for i, line in ipairs(lines) do
    texts[i] = bar.line(line, columns - 1, label_width, colored) .. "\n"
  end
  if more > 0 then
    texts[#texts + 1] = bar.fit(("... %d more"):format(more), columns - 1) .. "\n"
  end
  core.term_draw(table.concat(texts), #texts, columns - 1)
end

-- Write the changed lines of all panels whose time has come to the log.
local function write_lines(now)
  for _, panel in ipairs(panels) do
    if now - panel.logged >= LOG - DRAW / 2 then
      panel.logged = now
      for _, line in ipairs(panel.lines) do
        if line.before ~= line.written then core.log(bar.plain(line) .. "\n") end
        line.written = line.before
      end
    end
  end
end

local function show()
  local now = core.now()
  sample_all()
  local columns, rows = core.term_size()
  due = now + DRAW
  if columns then draw(columns, rows) else write_lines(now) end
  return columns and DRAW or LOG
end

local function stop_ticking()
  ticker:disarm()
  wait.set_ticker(nil)
end

local Ticks = {}

---Draw, and set the time of the next tick. Called by wait.lua.
function Ticks.pump()
  local period = show()
  if panels[1] then ticker:arm(period) end
end

local function start_ticking()
  ticker = ticker or core.ticker()
  due = core.now() + DRAW
  ticker:arm(core.term_size() and DRAW or LOG)
  wait.set_ticker(ticker:id(), Ticks)
end

-- The label. A number is added if a line on the screen has the same label.
local function distinct(label)
  local shown, text, n = {}, label, 1
  for _, panel in ipairs(panels) do
    for _, line in ipairs(panel.lines) do shown[line.label] = true end
  end
  while shown[text] do
    n = n + 1
    text = ("%s (%d)"):format(label, n)
  end
  return text
end

local function new_line(given, now)
  return {
    label = distinct(bar.label(given.label)), total = given.total, done = 0, failed = 0, rate = 0,
    seconds = 0, before = 0, at = now, written = 0,
  }
end

---Show lines until panel:finish().
---@param lines table[] label, total
---@param counted table|userdata the object that counts; the caller keeps it, and the panel ends
---when it is collected
---@param set fun(lines: fzlua.ProgressLine[], counted) a function that sets done, failed, busy,
---waiting and total
---@param on_error? string with "continue", work with failures counts as done
---@return fzlua.ProgressPanel|nil nil: nothing is shown
function progress.start(lines, counted, set, on_error)
  if defaults.quiet or not is_script() then return nil end
  local now = core.now()
  local self = setmetatable({
    lines = {}, sample = set, counted = setmetatable({ counted }, { __mode = "v" }),
    start = now, logged = now, continues = on_error == "continue",
  }, Panel)
  for i, line in ipairs(lines) do self.lines[i] = new_line(line, now) end
  panels[#panels + 1] = self
  if #panels == 1 then start_ticking() end
  return self
end

---Draw if a drawing is due. Called by a loop that does not wait.
function progress.poll()
  if core.now() >= due and panels[1] and is_script() then show() end
end

local function remove(panel)
  for i, other in ipairs(panels) do
    if other == panel then
      table.remove(panels, i)
      return true
    end
  end
  return false
end

local function state_of(panel, line)
  if line.failed > 0 and not panel.continues then return "failed" end
  if line.total and line.done + line.failed >= line.total then return "done" end
  return "cancelled"
end

-- The lines that the panel prints at its end, with their average rates.
local function last_lines(panel, state)
  local texts = {}
  for i, line in ipairs(panel.lines) do
    if i > LEFT_MAX then
      texts[i] = ("... %d more\n"):format(#panel.lines - LEFT_MAX)
      break
    end
    line.state = state or state_of(panel, line)
    line.busy, line.waiting = nil, nil
    line.rate = line.seconds > 0 and (line.done + line.failed) / line.seconds or 0
    texts[i] = bar.plain(line) .. "\n"
  end
  return table.concat(texts)
end

---Print the lines in their last state and end the panel. Further calls do nothing.
---@param state? string "done", "failed" or "cancelled"; by default the counts decide
function Panel:finish(state)
  if not (is_script() and remove(self)) then return end
  sample(self)
  if panels[1] then
    local columns, rows = core.term_size()
    if columns then draw(columns, rows) end
  else
    core.term_draw("", 0, 0)
    stop_ticking()
  end
  core.log(last_lines(self, state))
end

return progress
