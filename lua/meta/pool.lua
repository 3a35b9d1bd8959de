---@meta _
-- Pools
--
-- A pool is a set of worker processes that stay, and call functions. The workers are forked
-- together at the first call. A function that is newer than the workers is sent with its upvalues;
-- globals stay as they were at the fork. If a worker dies, the one call that it had started fails
-- or is retried, and another worker takes its place.
--
-- With `start = "spawn"` a worker is not forked: it is a process of the `fzlua` command, which is
-- safe in a host with threads, and costs some milliseconds. It inherits nothing: functions and
-- `init` are sent with their upvalues, as are the classes of `fz.register_class`, `package.path`
-- and `package.cpath`. Modules are required again, globals of the script are nil, and an upvalue
-- that cannot be sent, such as a file, is an error of kind `"unsendable"`. Queues, locks, values
-- and the slots of `jobs` are shared as with forked workers. A script starts the command that runs
-- it. A host starts the command that the option `worker_command` names, else the one of the
-- environment variable `FZLUA_WORKER_COMMAND`, else the installed one, else `fzlua` in `PATH`.
--
-- With `engine = "ssh://HOST:8,OTHER:4"` workers run on other machines, nodes, here up to 8 and 4
-- at once; a missing number is 1. They start as with `"spawn"`, by `ssh HOST fzlua --worker`, with
-- one connection for each. ssh uses its own keys, agent and `~/.ssh/config`. A node must have the
-- same version of fzlua and Lua, and the modules that functions require; functions open files of
-- the node, and start in the home directory there. Queues, locks and other shared objects cannot be
-- sent there: that is an error of kind `"unsendable"`. Errors have the field `node`. If a node is
-- lost, its calls fail as `"crash"` and are tried again as `retries` allow. A node on which no
-- worker can start is left out; if no node is left, the calls fail. `FZLUA_SSH` names another
-- program with its options, and `FZLUA_WORKER_COMMAND` the `fzlua` command of the nodes.
--
-- With `engine = "nats://HOST:4222/TEAM"` the nodes are the machines that have joined this NATS
-- server with `fzlua --worker --engine nats://HOST:4222/TEAM -j 8`, here with 8 slots: at most 8
-- calls run there at once, counting the calls of all scripts that use the node. A call that waits
-- for a slot has not begun, and its timeout does not run yet. Relative names of files begin in the
-- directory in which the node was started. `tls://` encrypts, and the
-- certificate of the server must have the name in the URL; plain text to another machine needs
-- `?insecure` after the URL. A user, password or token is in the URL, `nats://USER:PASSWORD@HOST`.
-- `--engine-creds FILE`, or the environment variable `FZLUA_ENGINE_CREDS`, names a file of
-- credentials; if the user of the URL is an nkey, `nats://UABC...@HOST`, the file has its seed.
-- `FZLUA_NATS` names the program `fzlua-nats`. Use a NATS server of version 2.11 or newer for
-- anything but one machine: older versions, such as that of Debian 12, lack fixes of
-- authentication.
--
-- A node leaves at Ctrl-C or SIGTERM once its running calls have ended. A second signal ends these
-- calls; they then fail as on a lost node. Quick calls are sent to a worker before its earlier
-- calls have ended. If its node is lost, the calls that it has not reported as started go to
-- another node, even without `retries`, each to a worker that has no other call, so that a call
-- that ends its node is found. So a call that started just before may run twice; one of its results
-- is used. A call that has certainly not come to the lost node goes to another one, too; the first
-- call of which nothing is known has failed. A run continues if the server was stopped, or the
-- network was cut, for less than a minute. A node that is killed is noticed within 3 s. A node that
-- does not answer gets no new calls after 3 s. A call there that has attempts left then goes to
-- another node; a call on its last attempt waits for the node, for a minute at most.
--
-- With `--allow FILE` a node runs only functions that its owner knows:
--
--     fzlua --digests pipeline.lua module.lua >allowed
--     fzlua --worker --engine nats://HOST:4222/TEAM --allow allowed
--
-- A line of the file is the SHA-256 of a function's code, made by the same version of Lua; text may
-- follow. The code includes the numbers of its lines, so the file must be made again if the script
-- changes. The code does not include upvalues and arguments: a function that is allowed may get any
-- values, but functions among these must be allowed, too. A line may also be the name of a module,
-- or of a C function such as `os.time`, which a script sends by its name; `string`, `table`,
-- `math`, `utf8`, `coroutine` and `print`, `type` and the like need no line. Any other function is
-- an error, which names the place of the function, its digest and the node. Such a node uses its
-- own `package.path`. With ssh, the user's key in `authorized_keys` has the command
-- `fzlua --worker --allow FILE`.

---@class fzlua
local fz = {}

---@class fzlua.PoolOptions : fzlua.LimitOptions
---@field workers? integer worker processes. Default: `fz.cpu_count()`
---@field init? fun() called once in each worker before its first call. If it
---fails, the call fails with its error
---@field exit? fun() called in each worker that had a call, when the worker ends normally
---@field idle? number seconds without work after which a worker ends. Default: no limit
---@field max_tasks? integer calls after which a worker is replaced. Default: no limit
---@field on_error? "stop"|"now"|"continue" default of maps. Default: `"stop"`
---@field seed? integer from which the random numbers of all calls derive. Default: a random one
---@field start? "fork"|"spawn" how the workers start: see [Pools](#pools). Default: the environment
---variable `FZLUA_START`, or `"fork"`
---@field engine? string where workers run, see [Pools](#pools). Default: the environment
---variable `FZLUA_ENGINE`, or `"local"`
---@field progress? boolean|function default of maps
---@field inflight? integer default of `imap`
---@field cache? boolean whether results of calls, elements and items are recorded in a file and
---used by later calls, see [Recorded results](#recorded-results). Default: with `resume` the
---results of elements and items are recorded
---@field resume? boolean|string true, or the name of the file for `cache`. Default: the option
---`--resume` of the command

---Make a pool. The options of calls are defaults for all calls of the pool.
---
---```lua
---local pool <close> = fz.pool{workers = 2, timeout = 60}
---print(pool:apply(math.max, 3, 7)) --> 7
---```
---@param options? integer|fzlua.PoolOptions the number of workers, or a table of options
---@return fzlua.Pool pool
function fz.pool(options) end

---At the end of the scope of a `<close>` variable, all submitted work is finished; an error that
---leaves the scope ends it at once.
---@class fzlua.Pool
---@field workers integer[] pids of the workers. Reading it starts all of them, except with `idle`
local pool = {}

---Call `f(...)` in a worker and wait.
---@param f function
---@param ... any copies are sent
---@return any ... all results of `f`
function pool:apply(f, ...) end

---Call `f(table.unpack(args))` in a worker, without waiting.
---
---```lua
---local pool <close> = fz.pool(2)
---local function add(a, b) return a + b end
---local result = pool:apply_async(add, {40, 2}, {timeout = 5, retries = 2})
---print(result:get()) --> 42
---```
---@param f function
---@param args? table list of arguments; its field `n` is their number if it has holes
---@param options? fzlua.ApplyOptions
---@return fzlua.AsyncResult result
function pool:apply_async(f, args, options) end

---Call a function with a copy of each element of a list, and wait.
---
---Raises the error of the element that failed first, whose place is `e.index`; further errors are
---in `e.others`.
---@param f fun(element: any): any its first result is kept
---@param list table a list; its field `n` is its length if it has holes
---@param options? fzlua.MapOptions
---@return fzlua.Results results
function pool:map(f, list, options) end

---As `pool:map`, but call `f(table.unpack(element))`.
---@param f function
---@param list table[]
---@param options? fzlua.MapOptions
---@return fzlua.Results results
function pool:starmap(f, list, options) end

---As `pool:map`, without waiting. The list is taken as it is at the call.
---@param f fun(element: any): any
---@param list table
---@param options? fzlua.MapAsyncOptions
---@return fzlua.AsyncResult result of the list of results
function pool:map_async(f, list, options) end

---As `pool:starmap`, without waiting.
---@param f function
---@param list table[]
---@param options? fzlua.MapAsyncOptions
---@return fzlua.AsyncResult result of the list of results
function pool:starmap_async(f, list, options) end

---Map the items of a source as a loop takes the results, in the order of the source. The source is
---read only as far as needed, and a result that is ready is returned before more is read. The end
---of the loop ends all work. There is no option `chunksize`: the size of chunks follows from
---measured times.
---
---```lua
---local pool <close> = fz.pool(2)
---for i, length, err in pool:imap(string.len, io.lines "LICENSE", {inflight = 100}) do
---  if i > 1 then break end
---  print(i, length) --> 1 11
---end
---```
---@param f function called with an item; with all values that the iterator returns, if it has a
---state, as that of `pairs`
---@param source table|function a list; or what a `for` loop takes: an iterator and up to three
---further values, before the options
---@param options? fzlua.ImapOptions
---@return fun(): integer, any, fz.Error iterator gives `i, value`, the place of an item and the
---first result; with `on_error = "continue"`, for a failed item, `i, nil, err`
function pool:imap(f, source, options) end

---As `pool:imap`, but return results in the order in which they arrive.
---@param f function
---@param source table|function
---@param options? fzlua.ImapOptions
---@return fun(): integer, any, fz.Error iterator
function pool:imap_unordered(f, source, options) end

---Reduce items in the workers of the pool, see [fz.fold](#fzfold).
---@param f fun(acc: any, item: any): any
---@param items table|function a list, or an iterator that returns one item per call
---@param init any
---@param merge fun(a: any, b: any): any called in this process
---@param options? fzlua.FoldOptions
---@return any acc
function pool:fold(f, items, init, merge, options) end

---Refuse new work: later calls raise an error of kind `"closed"`. Submitted work goes on.
function pool:close() end

---Cancel all work and end all workers at once, with all processes that their calls have started.
function pool:terminate() end

---After `close` or `terminate`: wait until all work is done and the workers have ended. Raises an
---error of kind `"error"` before that.
---@param timeout? number seconds
---@return true|nil done nil if the time ran out
---@return "timeout"|nil why
function pool:join(timeout) end
