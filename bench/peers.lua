--- peers.lua - the numbers of other libraries for a row, measured right after it.
--
-- Each peer has a script in peers/. Its argument is the name of a row, and it prints
-- `row<TAB>value<TAB>unit`, or nothing if it does not have that row.

local peers = {}

local LIMIT_S <const> = 60

-- A probe is the arguments with which a peer's program prints the peer's name and version, or
-- fails if the peer is not installed.
local PYTHON <const> = [[-c 'import platform, multiprocessing
print("Python", platform.python_version())']]
local KNOWN = {
  { name = "Python", script = "python.py", probe = PYTHON,
    programs = { "/usr/bin/python3", "python3" } },
  { name = "node", script = "node.js", probe = [[-p '"node " + process.versions.node']],
    programs = { "node", "nodejs" } },
  { name = "effil", script = "effil.lua", probe = [[-e 'require "effil" print "effil"']],
    programs = { "lua5.3" } },
  { name = "Lanes", script = "lanes.lua", probe = [[-e 'require "lanes" print "Lanes"']],
    programs = { "lua5.4" } },
}

-- The output of a shell command; nil and the reason if it fails.
local function output(command)
  local pipe = assert(io.popen(("timeout %d %s 2>&1 </dev/null"):format(LIMIT_S, command)))
  local text = pipe:read("a")
  local ok, how, code = pipe:close()
  if ok then return text end
  return nil, code == 124 and how == "exit" and ("took more than %d s"):format(LIMIT_S)
    or text:gsub("%s+", " ")
end

-- The peers that are installed, each with its program and its full name. A line is printed for
-- each of the others.
local function installed()
  local found = {}
  for _, peer in ipairs(KNOWN) do
    for _, program in ipairs(peer.programs) do
      local said = not peer.program and output(program .. " " .. peer.probe)
      if said then peer.program, peer.title = program, said:gsub("%s+$", "") end
    end
    if peer.program then
      found[#found + 1] = peer
    else
      print(peer.name .. ": not installed, skipped")
    end
  end
  return found
end

---Print a line of each installed peer for the row.
---@param folder string where the scripts are
---@param row string
function peers.print(folder, row)
  peers._installed = peers._installed or installed()
  for _, peer in ipairs(peers._installed) do
    local said, why = output(("%s '%s%s' %s"):format(peer.program, folder, peer.script, row))
    if not said then
      print(("%s\t-\t-\t%s\tfailed: %s"):format(row, peer.title, why))
    elseif said ~= "" then
      print(said:gsub("%s+$", "") .. "\t" .. peer.title)
    end
  end
end

return peers
