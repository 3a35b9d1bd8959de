--- each.lua - the rows of fzlua --each and --fold, for run.lua.

local limits = require "limits"
local weblog = require "weblog"

local SHORT <const> = "line:upper()"
local LONG <const> = 'line:gsub("%d+", "<%0>")' -- 2 us a line
local SIZE <const> = 100000000

-- AWK does the same as SHORT, and COUNT_AWK the same as COUNT, which is code for --fold.
local AWK <const> = "{ print toupper($0) }"
local COUNT <const> = "local k = line:match '\" (%d+) ' acc[k] = acc[k] + 1"
local COUNT_AWK <const> = "{ n[$(NF - 1)]++ } END { for (k in n) print k, n[k] }"

-- The words as a shell command, each of them quoted.
local function quoted(...)
  local words = { ... }
  for i, word in ipairs(words) do words[i] = "'" .. word:gsub("'", "'\\''") .. "'" end
  return table.concat(words, " ")
end

---@param command string the command under test
---@param here string folder of this file
---@param scratch string folder for the logs
---@param expect fun(what: string, got: any, wanted: any)
return function(command, here, scratch, expect)
  local function run(shell_command)
    local seconds, status = limits.spawn("sh", "-c", shell_command .. " >/dev/null")
    expect("exit status", status, 0)
    return seconds
  end

  local function checksum(shell_command)
    local pipe <close> = assert(io.popen(shell_command .. " | LC_ALL=C sort | cksum"))
    return pipe:read "a"
  end

  local function lua(code)
    return function(path) return quoted("lua5.4", here .. "log/each.lua", code, path) end
  end

  local function awk(code)
    return function(path) return quoted("awk", code, path) end
  end

  local function parallel(code)
    return function(path)
      local job = quoted("lua5.4", here .. "log/each.lua", code, "/dev/stdin")
      return quoted("parallel", "--pipe", "-k", "-j2", "--block", "10M", job) .. " <" .. path
    end
  end

  -- Both sides of a row: the command with `option` and CODE, and a program with the same output.
  local function beside(jobs, option, code, other)
    return function()
      local path = weblog.path(SIZE, scratch)
      local ours, theirs = quoted(command, jobs, option, code, path), other(path)
      expect("output", checksum(ours), checksum(theirs))
      return function() return run(ours) end, function() return run(theirs) end
    end
  end

  return {
    { name = "each_j1", unit = "ms", samples = 7, against = "lua5.4", target = 1 / 0.9,
      needs = "lua5.4", measure = beside("-j1", "--each", SHORT, lua(SHORT)) },
    { name = "each_j2", unit = "ms", samples = 5, against = "lua5.4", target = 1,
      needs = "lua5.4", measure = beside("-j2", "--each", LONG, lua(LONG)) },
    { name = "each_awk", unit = "ms", samples = 5, against = "awk", needs = "awk",
      measure = beside("-j2", "--each", SHORT, awk(AWK)) },
    { name = "each_parallel", unit = "ms", samples = 3, against = "parallel --pipe lua5.4",
      needs = "parallel", measure = beside("-j2", "--each", LONG, parallel(LONG)) },
    { name = "each_fold_awk", unit = "ms", samples = 5, against = "awk", needs = "awk",
      measure = beside("-j2", "--fold", COUNT, awk(COUNT_AWK)) },
  }
end
