--- explain.lua - rows for run.lua: what --explain predicts for two workers from a run with one,
--- compared with a run with two.

-- Name, samples and arguments of each example that takes more than some milliseconds. Examples that
-- set their numbers of workers themselves, those without calls, and sqlite are not here: the calls
-- of sqlite wait for the lock of a database, which no trace shows.
local EXAMPLES <const> = {
  { "accesslog", 15 }, { "batch", 3 }, { "diamond", 5 }, { "frames", 3 }, { "model", 15 },
  { "packages", 15, "file=examples/data/packages.txt" }, { "primes", 15 }, { "primes_map", 15 },
  { "release", 15 },
}

local SECONDS <const> = { ms = 1e-3, s = 1 }

-- The seconds in a line of --explain that matches a pattern.
local function seconds_in(text, pattern)
  local number, unit = text:match(pattern)
  if not number then error("no such line in: " .. text, 0) end
  return tonumber(number) * SECONDS[unit]
end

---@param command string the command under test
---@param here string directory of this file
return function(command, here)
  local function explain(name, jobs, arguments)
    local pipe <close> = assert(io.popen(("cd %s.. && %q -j%d --explain examples/%s.lua %s 2>&1 "
      .. ">/dev/null </dev/null"):format(here, command, jobs, name, arguments or "")))
    return pipe:read "a"
  end
  if not command:find "^/" then
    local pipe <close> = assert(io.popen "pwd")
    command = pipe:read "l" .. "/" .. command
  end
  local rows = {}
  for _, example in ipairs(EXAMPLES) do
    local name, samples, arguments = table.unpack(example)
    rows[#rows + 1] = { name = "explain_" .. name, unit = "ms", samples = samples,
      against = "a run with two workers", target = 1.15, least = 0.85,
      measure = function()
        return function()
          return seconds_in(explain(name, 1, arguments),
            "2 times the workers %(%-j 2%) +([%d.]+) (m?s)")
        end, function()
          return seconds_in(explain(name, 2, arguments), "explain: ([%d.]+) (m?s) ")
        end
      end }
  end
  return rows
end
