---@meta _
-- Programs and scripts

---@class fzlua
local fz = {}

---@class fzlua.ExecOptions
---@field stdin? string|(fun(): string|nil)|{file: string} standard input: a string; an iterator
---that returns the next piece each time the program has read the one before; or `{file = NAME}`.
---Default: empty
---@field stdout? fun(line: string)|{file: string} a function that is called with each line, without
---its newline, while the program runs; or `{file = NAME}`. Default: kept in the result
---@field stderr? fun(line: string)|{file: string} the same for standard error
---@field cwd? string directory of the program. Default: that of the script
---@field env? table<string, string|false> variables that are added to the environment; the value
---false removes a variable
---@field timeout? number seconds, after which the program and all its descendants are ended.
---Default: no limit
---@field check? boolean true: raise unless the exit code is 0. The error has `exitcode` or
---`signal`, and the whole result as `cause`. Default: false

---@class fzlua.Ended
---@field exitcode integer|nil nil if a signal ended the program
---@field signal integer|nil number of that signal
---@field stdout string|nil all output, unless the option `stdout` took it
---@field stderr string|nil the same of standard error
---@field timed_out boolean|nil true if the time ran out

---Run another program and wait until it ends. No shell is involved: the words are passed unchanged.
---Processes that the program leaves behind end with it. Raises if the program does not exist.
---
---```lua
---local sorted = fz.exec({"sort"}, {stdin = "b\na\n"})
---print(sorted.exitcode, (sorted.stdout:gsub("\n", " "))) --> 0 a b
---
---fz.exec({"ls"}, {stdout = function(line) print("> " .. line) end, check = true})
---
---local ok, why, ended = fz.exec({"sleep", "9"}, {timeout = 0.1})
---print(ok, why, ended.timed_out) --> nil timeout true
---```
---@param words string[] the program, searched in PATH unless it has a `/`, and its arguments
---@param options? fzlua.ExecOptions
---@return fzlua.Ended|nil ended nil if the time ran out
---@return "timeout"|nil why
---@return fzlua.Ended|nil partial after a timeout: what the program had written by then
function fz.exec(words, options) end

---@class fzlua.ScriptsOptions
---@field jobs? integer scripts that run at once. Default: `fz.cpu_count()`
---@field timeout? number seconds for each script; a script that took longer has `timed_out`.
---Default: no limit

---Run scripts side by side, each with a command of its own.
---
---```lua
---local results = fz.run_scripts({{"examples/primes.lua"}, "examples/stages.lua"}, {jobs = 2})
---print(#results, results[1].exitcode) --> 2 0
---```
---@param scripts (string|string[])[] file names, or lists of a file name and arguments
---@param options? fzlua.ScriptsOptions
---@return fzlua.Ended[] results in the order of the scripts
function fz.run_scripts(scripts, options) end
