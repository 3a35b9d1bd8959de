---@meta _
-- Recorded results
--
-- With the option `resume`, or `--resume` of the command, the results of the functions of chains
-- and dags are recorded in a file, and a later run uses them. So a run that was interrupted, or
-- in which a function failed, continues where it ended. `cache = true` does the same for one
-- function, stage, chain or dag, in every run; `cache = false` exempts one.
--
-- A recorded result is used if the digests (see `fz.digest`) of these are the same: the function
-- with its upvalues, the globals and functions that it reads, the modules that it requires, the
-- methods of its classes and the `init` of its stage; its inputs; its option `version`; and the
-- seed, if one is given. A module counts by its file, and by the strings, numbers and booleans in
-- its table, which the script may have set. Comments, names of variables and the order of functions
-- do not count. Other things that a function reads, such as files, the environment, the clock,
-- tables inside of modules or a module whose name is computed, are not noticed: pass files as
-- `fz.file`, or change `version`.
--
-- Only successes are recorded, each before its end is reported. Results that contain functions or
-- shared objects are not recorded, nor results of functions with shared objects as upvalues: the
-- log says why. Each item of a stream has records of its own. A map is recorded by its elements, as
-- each succeeds, and as a whole: if its list has grown, the function is called only for the new
-- elements. Chains that workers run do not use recorded results.
--
-- The options hold for `fz.map`, `fz.starmap` and the maps and imaps of pools, too: each element is
-- recorded. `pool:apply` and `pool:apply_async` need `cache = true`, because such a call may be
-- repeated to see what has changed; folds are never recorded. Workers of a pool have the globals
-- and modules of their start: if what a recorded function reads in them changes later, it must be
-- an argument.
--
-- The file is the one that the option names, else the one that `FZLUA_CACHE` names, else
-- `.fzlua/cache.db`. It is a database of SQLite, and several runs may use it at the same time. It
-- needs the library `libsqlite3.so.0`; values above 64 KiB are compressed if there is
-- `libzstd.so.1`. If all results together take more than `FZLUA_CACHE_SIZE` (`"1G"`), those that
-- were used least recently are removed; a warning says if results of the run itself are among
-- them. If the file cannot be used, because it is damaged, that is logged once, and the run goes on
-- without it. If the disk is full, or the file or its directory may not be written, the results in
-- it are used and none are recorded, and that is logged once, too. A recorded result that cannot
-- be read, because its bytes are damaged, another version of fzlua has recorded it, or a class or
-- module that it needs is missing, is computed anew, with a warning for each function. A file that
-- has lost all its bytes is begun anew, with a warning. If the file is removed during a run, a
-- warning says that its results are lost.
--
-- A file from elsewhere cannot bring code: recorded values with functions or modules are not read.
--
-- `fzlua -n --resume` lists what would run, and why; `fzlua --cache ls` what is recorded.

---@class fzlua
local fz = {}

---A file as a value. Its contents, and not its path, decide whether a recorded result is used, and
---what `fz.digest` returns. It is sent to other processes as its path. A recorded result that
---contains a file is used only as long as the file has the same contents.
---
---```lua
---local path = os.tmpname()
---print(fz.digest(fz.file(path)) == fz.digest(fz.file "/dev/null")) --> true
---os.remove(path)
---```
---@param path string
---@return fzlua.File file
function fz.file(path) end

---`tostring(file)` is its path.
---@class fzlua.File
---@field path string
local file = {}

---Open the file, as `io.open` does.
---@param mode? string Default: `"r"`
---@return file*|nil stream, string|nil message
function file:open(mode) end

---All bytes of the file. Raises if it cannot be read.
---@return string bytes
function file:read() end

---Iterate over the lines of the file, as `io.lines` does.
---@param ... any formats
---@return fun(): string|nil iterator
function file:lines(...) end

return fz
