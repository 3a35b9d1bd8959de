--- digests.lua - fzlua --digests FILE...: the lines for the file of --allow of a node.

local core = require "fzlua.core"
local messages = require "fzlua.messages"

local digests = {}

-- Print a line for each function in the file. The file's own chunk gets no line.
local function print_file(path)
  local f, why = loadfile(path, "t")
  if not f then
    messages.complain(why)
    return messages.FAILED
  end
  for _, code in ipairs(core.code_digests(string.dump(f))) do
    if code.line > 0 then io.write(("%s %s:%d\n"):format(code.digest, path, code.line)) end
  end
  return messages.OK
end

---Print the lines.
---@param paths string[] the files
---@return integer status 1 if a file cannot be loaded
function digests.run(_, paths)
  if #paths == 0 then messages.misuse "--digests needs the name of a script" end
  local status = messages.OK
  for _, path in ipairs(paths) do
    if print_file(path) ~= messages.OK then status = messages.FAILED end
  end
  return status
end

return digests
