-- race.lua: the first of several commands that succeeds ends the others.
--
--   fzlua examples/race.lua

local fz = require "fzlua"

-- Run the commands at the same time. Return the first one that succeeds, and its output.
local function race(commands)
  local runs = {}
  local _ <close> = setmetatable({}, { __close = function()
    for future in pairs(runs) do future:cancel() end -- ends the program, too
  end })
  local list = {}
  for i, command in ipairs(commands) do
    list[i] = fz.spawn(fz.exec, command)
    runs[list[i]] = command
  end
  for future in fz.as_completed(list) do
    local ended = future:await()
    if ended.exitcode == 0 then return runs[future], ended.stdout end
    print(("%s exited with %d"):format(table.concat(runs[future], " "), ended.exitcode))
  end
  return nil
end

local function sh(script) return { "sh", "-c", script } end

local start = fz.now()
local winner, output = race {
  sh "sleep 60; echo mirror one",
  sh "sleep 1; echo mirror two",
  sh "exit 3",
  sh "sleep 61; echo mirror four",
}
print("winner", table.concat(winner, " "))
print("output", (output:gsub("\n", "")))
print("did not wait for the others", fz.now() - start < 50)
print("none succeeds", race { sh "exit 1" })
