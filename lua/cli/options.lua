--- options.lua - the table of the command's options.
--
-- command_line.lua reads the arguments according to this table. help.lua makes the texts of -h and
-- --help from this table. tools/options.lua makes the completions and a part of the man page. A
-- new option needs one entry here, and code that reads its field. The options of lua5.4 are in
-- lua_options.lua.
--
-- An entry with `module` replaces the script by require(module).run(options, ...), which returns
-- the exit status. It is called as a script is, after LUA_INIT, -e and -l. Its errors are
-- reported, Ctrl-C raises an error in it, and the command waits for its work and tasks.
--
--   fzlua.records: run(options, files, host), with all arguments after the options. The fields
--     are each or fold (the code), null, unordered and json (true or nil). What `run` has of jobs,
--     timeout, retries, on_error, seed, progress and quiet is in fzlua.defaults, too.
--   fzlua.nodes: run(), which prints a table.
--   fzlua.digests: run(options, arguments), with all arguments after the options.
--   fzlua.join: run(), which says how a node is started; the command joins before it runs Lua.
--   fzlua.cache_command: run(options, arguments), with all arguments after the options.
--   fzlua.repl: run(options, arguments, host, ...), after the script and with what it returned.
--     The version has been printed. It also runs if there is no script and standard input is a
--     terminal.

---@class fzlua.Option
---@field short string|nil "-j"
---@field long string|nil "--timeout"
---@field argument string|nil the value's name; nil: it has none
---@field default string|nil the value that a missing value means; a given value is then written
---after "="
---@field choices string[]|nil the possible values
---@field files boolean|nil whether the value is the name of a file
---@field group string
---@field help string for -h: at most 54 characters
---@field more string|nil for the man page; words in backquotes are typed literally
---@field run string|nil the value is this option of all invokes, maps and pools
---@field set string|nil this field of the options becomes the value, or true
---@field implies string|nil this field becomes true, too
---@field step string|nil with the value, a step before the script, in the order of the arguments
---@field beside string|nil of the group "chain": it can also be used with this module
---@field needs string|nil it can only be used with an option of this module
---@field module string|nil replaces the script

local lua_options = require "fzlua.lua_options"

local options = {}

---All options, in the order of the help.
---@type fzlua.Option[]
options.list = {
  { short = "-j", argument = "N", group = "run", run = "jobs",
    help = "run at most N functions at once; 0: in this process",
    more = "Run at most N functions at once; the default is the number of processors. With 0 all \z
      functions run in this process, one after the other, with the same results." },
  { long = "--timeout", argument = "S", group = "run", run = "timeout",
    help = "end an attempt of a function after S seconds" },
  { long = "--retries", argument = "N", group = "run", run = "retries",
    help = "repeat a failed function up to N times",
    more = "Repeat a function up to N times after an error, a crash or a timeout." },
  { long = "--on-error", argument = "MODE", group = "run", run = "on_error",
    choices = { "stop", "now", "continue" },
    help = "after a failure: stop, now or continue",
    more = "`stop`: start no further functions, let the running ones finish, and fail with the \z
      first error. `now`: end the running functions, too. `continue`: run all functions that do \z
      not depend on a failed one." },
  { long = "--seed", argument = "N", group = "run", run = "seed",
    help = "derive the random numbers of all functions from N" },
  { long = "--progress", group = "run", run = "progress",
    help = "show the progress of chains, streams and maps",
    more = "Show the progress of chains, streams and maps on standard error: lines below the \z
      output if it is a terminal, else a line every few seconds." },
  { long = "--quiet", group = "run", run = "quiet",
    help = "show no progress, even if the script asks for it" },

  { long = "--input", argument = "FILE", group = "chain", set = "input", files = true,
    beside = "fzlua.repl",
    help = "read inputs from a JSON object",
    more = "Read inputs from the object in the JSON file FILE. Inputs on the command line \z
      override them." },
  { long = "--inputs", group = "chain", set = "inputs",
    help = "list the inputs, what reads them, their values",
    more = "List the inputs with the functions that read them and the values that are set, and \z
      run nothing." },
  { long = "--only", argument = "NAME,...", group = "chain", set = "only", beside = "fzlua.repl",
    help = "run only what these outputs need",
    more = "Run only the functions that these outputs need, and print only these." },
  { long = "--json", group = "chain", set = "json", beside = "fzlua.records",
    help = "print the outputs as JSON, all else to stderr",
    more = "Print the outputs as one JSON object. Other output of the script and its workers goes \z
      to standard error. A value without a JSON form (an infinite number, NaN, a function, a \z
      string that is not UTF-8) is printed as null; each such value gives a message \z
      on standard error, and the exit status is 1. With `--each` and `--fold`, each line is a \z
      JSON value, and `line` is that value; all results are printed as JSON, except for true, \z
      which prints the line, and the sums are one object." },
  { long = "--graph", argument = "KIND", default = "text", group = "chain", set = "graph",
    choices = { "text", "mermaid", "dot" },
    help = "print the graph (text, mermaid, dot); run nothing",
    more = "Print the graph of the chain and run nothing." },
  { long = "--check", group = "chain", set = "check",
    help = "find mistakes in the script; start no worker",
    more = "Find mistakes without running the pipeline: the script is run up to the first call \z
      that would start a worker or a program, wait or exit. Each finding is a line `file:line: \z
      error: text`, or `warning` or `note`. It finds graphs that cannot run, inputs that are \z
      missing (a note if the command line has none) or not read, values that cannot be sent, \z
      wrong names in `--only`, and globals that functions set in workers or that do not exist. \z
      A top level that runs for longer than 10 s, or the S of `--timeout`, is an error. The exit \z
      status is 0 if there are only notes." },

  { long = "--resume", argument = "FILE", default = true, group = "cache", run = "resume",
    files = true, help = "use results that earlier runs have recorded",
    more = "Use the results of functions of chains and dags, of items of streams and of elements \z
      of maps that earlier runs have recorded in FILE, and record the results of this run, so \z
      that only new and failed work runs. The default is the file that `FZLUA_CACHE` names, or \z
      `.fzlua/cache.db`. A function runs again if it, what it calls, its inputs or the seed have \z
      changed." },
  { short = "-n", long = "--dry-run", group = "cache", set = "dry_run",
    help = "list what would run, and why; run nothing",
    more = "List the functions of the chain that the script returns, and run nothing: `recorded` \z
      for those whose results are recorded, `perhaps` for those that depend on a value that is \z
      made anew, and `run` for the others, with the reason. If the script runs a chain itself, \z
      that chain is listed, and the script ends there. A map, a stream, a call of a pool, \z
      `fz.process`, `fz.exec` and `fz.run_scripts` cannot be listed, and end the script with an \z
      error; what Lua's own functions do, such as `os.execute`, is done." },
  { long = "--cache", argument = "WHAT", group = "cache", set = "cache",
    module = "fzlua.cache_command", choices = { "ls", "show", "gc", "clear" },
    help = "ls, show NAME, gc or clear recorded results",
    more = "`ls` lists the functions with recorded results and failures; `show`, followed by the \z
      name of an output, its calls; `gc` removes the results that were used least recently, \z
      beyond the size that `FZLUA_CACHE_SIZE` sets (1G), and gives space back; `clear` removes \z
      all. The file is that of `--resume` or `FZLUA_CACHE`." },
  { long = "--debug-failed", argument = "NAME", group = "cache", set = "debug_failed",
    help = "run in this process a function that failed",
    more = "Run in this process only the function of the output NAME, whose last failure is \z
      recorded, and before it the functions that it needs and whose results are not \z
      recorded. If the script runs chains, streams or maps itself, these use recorded results, \z
      and call functions without a recorded result in this process. NAME may be that of a map, \z
      as --cache ls shows it." },

  { long = "--each", argument = "CODE", group = "records", set = "each", module = "fzlua.records",
    help = "print the value of CODE for each line",
    more = "Call CODE in workers for each line, and print the results in the order of the \z
      lines. CODE is an expression of `line` and `n`, the number of the line in all files, such \z
      as `line:upper()`, or an expression whose value is a function that gets both. Whether it \z
      is a function is decided at the first line of each worker. Nil and false print nothing, \z
      true prints the line, strings and numbers are printed as lines, tables as JSON." },
  { long = "--fold", argument = "CODE", group = "records", set = "fold", module = "fzlua.records",
    help = "run CODE for each line; print the sums in acc",
    more = "Call CODE for each line: a statement, or an expression whose value is a function of \z
      `line`, `n` and `acc`. It changes `acc`, a table whose numbers begin at 0; a nil key is \z
      ignored. The \z
      tables of all workers are added up and printed as lines of a key and a number: keys that \z
      are numbers first, then strings by their bytes. A line at which CODE fails changes \z
      nothing." },
  { long = "--null", group = "records", set = "null", needs = "fzlua.records",
    help = "records end in a NUL byte instead of a newline" },
  { long = "--unordered", group = "records", set = "unordered", needs = "fzlua.records",
    help = "print the results as soon as they are there" },

  { long = "--trace", argument = "FILE", group = "did", set = "trace", files = true,
    help = "record the calls in FILE.jsonl, .json or .tsv",
    more = "Record each attempt of a call in the file FILE. The end of its name is the format: \z
      `.jsonl` is one JSON object per line, `.json` the format of Chrome, which Perfetto opens, \z
      and `.tsv` the job log of GNU parallel. Calls that workers make in workers of their own are \z
      not recorded." },
  { long = "--report", argument = "FILE", group = "did", set = "report", files = true,
    help = "write a page about the run to FILE.html",
    more = "Write one page about all calls of the script to the file FILE, whose name ends in \z
      `.html`: summary, graph by time and state, what each worker did, a table of the functions, \z
      times, failures. It needs no network, and shows no arguments of the script." },
  { long = "--explain", group = "did", set = "explain",
    help = "say what bounded the run, and what would help",
    more = "Say on standard error, at the end, what bounded the run: the number of functions at \z
      once, short calls, the script itself, calls that wait for each other. Then follow the \z
      slowest stages, the critical path, waiting, bytes that were copied, and what more workers, \z
      larger chunks or faster functions would gain. That is a simulation of the recorded calls, \z
      of the script's work between them and of the starts of workers. It does not know about \z
      other programs, or that functions may slow down each other in caches, memory and disks." },

  { long = "--engine", argument = "URL", group = "nodes", run = "engine",
    help = "run functions on other machines: ssh://HOST:8,...",
    more = "Run functions in workers on other machines. `local` is this machine, and the default. \z
      `ssh://HOST:8,OTHER:4` starts `fzlua --worker` with ssh, for up to 8 functions at once on \z
      HOST and 4 on OTHER; the number is 1 if it is missing. `nats://HOST:PORT/TEAM` uses the \z
      machines that have joined this NATS server with `fzlua --worker --engine \z
      nats://HOST:PORT/TEAM -j 8`. All machines must have the same version of fzlua." },
  { long = "--engine-creds", argument = "FILE", group = "nodes", set = "engine_creds", files = true,
    help = "the credentials for a nats:// engine",
    more = "Join the NATS server of `--engine` with the credentials in FILE, or with the seed of \z
      an nkey there, whose public key is the user of the URL. Default: `FZLUA_ENGINE_CREDS`." },
  { long = "--nodes", group = "nodes", set = "nodes", module = "fzlua.nodes",
    help = "list the machines of --engine; run nothing",
    more = "List the machines of `--engine` with their slots, processors, load and state: \z
      `ready`, or why no worker starts there. The exit status is 1 if one is not ready." },
  { long = "--digests", group = "nodes", set = "digests", module = "fzlua.digests",
    help = "print digests of functions, for --allow of a node",
    more = "Print a line for each function in the scripts and modules whose names follow: the \z
      SHA-256 of its code with its line numbers, the file and the line. These lines are the file \z
      for `fzlua --worker --allow FILE`, which runs no other functions. A line of that file may \z
      also be the name of a module or of a C function, such as `os.time`." },

  { long = "--worker", group = "node", set = "worker", module = "fzlua.join",
    help = "run functions here for scripts elsewhere: a node",
    more = "Join the NATS server of `--engine` as a node, which runs functions of scripts on \z
      other machines, until Ctrl-C or SIGTERM. The running calls end first; a second signal \z
      ends them. `-j N` is the number of slots: at most N calls run at once, by default one for \z
      each processor that this process may use. With `ssh://` the script starts its nodes." },
  { long = "--name", argument = "NAME", group = "node", needs = "fzlua.join",
    help = "the name of the node: letters, digits, . _ -",
    more = "The name of the node in `--nodes` and in errors. The default is the name of the \z
      machine." },
  { long = "--allow", argument = "FILE", group = "node", files = true, needs = "fzlua.join",
    help = "run only the functions that FILE lists",
    more = "Run only the functions that FILE lists: see `--digests`." },
  { short = "-h", group = "help", set = "summary", help = "print this summary" },
  { long = "--help", group = "help", set = "help", help = "the same with examples" },
}

-- Insert the options of Lua before the options of the help.
for _, option in ipairs(lua_options.list) do
  table.insert(options.list, #options.list - 1, option)
end

---The options by their names.
---@type table<string, fzlua.Option>
options.named = lua_options.by_name(options.list)

return options
