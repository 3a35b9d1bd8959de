--- style.lua - colours of text for people.

local style = { colored = false }

local PLAIN <const> = "\27[0m"

local CODES = {
  error = "\27[31m", faint = "\27[2m", prompt = "\27[1;32m", title = "\27[1m", missing = "\27[31m",
  string = "\27[32m", number = "\27[36m", boolean = "\27[35m", ["nil"] = "\27[2m",
}

---Use colours from now on, if the terminal has colours and the user allows them.
---@param has_colors boolean
function style.enable(has_colors)
  style.colored = has_colors and (os.getenv "NO_COLOR" or "") == ""
end

---@param kind string "error", "faint", "prompt", "title", "missing", or a type of Lua
---@param text string
---@return string
function style.paint(kind, text)
  local code = style.colored and CODES[kind]
  return code and code .. text .. PLAIN or text
end

return style
