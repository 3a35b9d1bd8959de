--- run_report.lua - the page of a run: one file of HTML that loads nothing from elsewhere.
--
-- The parts of the page are files beside this one. The data is JSON, in which "<" is escaped, so
-- that no name can end the <script> element. The script of the page sets all names as text.

local core = require "fzlua.core"
local page_body = require "fzlua.page_body"
local page_script = require "fzlua.page_script"
local page_style = require "fzlua.page_style"
local run_data = require "fzlua.run_data"

local run_report = {}

local PAGE <const> = [[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>fzlua run</title>
<style>
%s</style>
</head>
<body>
%s<script type="application/json" id="data">%s</script>
<script>
%s</script>
</body>
</html>
]]

---The page as a string.
---@param source fzlua.RunSource
---@return string
function run_report.text(source)
  return PAGE:format(page_style, page_body, run_data.text(source), page_script)
end

---Whether the file can be written. Creates an empty file if there is none.
---@param path string
---@return boolean|nil ok, string|nil why
function run_report.probe(path)
  local file, why = io.open(path, "a")
  if not file then return nil, why end
  file:close()
  return true
end

---Write the page. Other runs that write this file at the same time wait, so that the file is not a
---mixture of two pages.
---@param path string
---@param source fzlua.RunSource
---@return boolean|nil ok, string|nil why
function run_report.write(path, source)
  local text = run_report.text(source)
  local lock <close>, locked_why = io.open(path, "a")
  if not lock then return nil, locked_why end
  core.lock_file(lock)
  local file, why = io.open(path, "w")
  if not file then return nil, why end
  local ok, e = file:write(text)
  local closed, close_error = file:close()
  if not ok then return nil, ("%s: %s"):format(path, e) end
  if not closed then return nil, ("%s: %s"):format(path, close_error) end
  return true
end

return run_report
