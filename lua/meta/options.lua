---@meta _
-- Options that several calls share. The reference prints them at each call.

---@class fzlua.LimitOptions for one call of a function
---@field timeout? number seconds that one attempt may take. Then the attempt and all processes that
---it started end, and the call fails with kind `"timeout"`. Default: no limit
---@field retries? integer further attempts after an error, a crash or a timeout. Default: 0
---@field backoff? number seconds before the first retry, doubled before each further one. Default:
---0
---@field memory? integer|string bytes, or a text such as `"512M"`, that the worker may hold beyond
---what it inherited; more is an error of kind `"memory"`. Default: no limit
---@field retry_if? fun(e: fz.Error): boolean `f(e)` says whether the call that failed with the
---error is retried. It is called in the script's process; if it raises, that is logged and the call
---is not retried. Default: all errors are

---@class fzlua.FunctionOptions : fzlua.LimitOptions
---@field optional? boolean|string|string[] true, or inputs by name: an input whose function failed
---arrives as nil instead of cancelling this function. Default: false

---@class fzlua.RunOptions : fzlua.LimitOptions
---@field jobs? integer functions that run at once. 0: all in this process, in order, for debugging.
---Default: `fz.cpu_count()`
---@field deadline? number seconds for the whole call, which then ends with kind `"timeout"`.
---Default: no limit
---@field on_error? "stop"|"now"|"continue" after a failure. `"stop"` starts nothing new, lets
---running functions finish and raises the first error. `"now"` also ends what runs. `"continue"`
---runs all that does not depend on the failure, and raises nothing: see `errors`. Default: `"stop"`
---@field keep? "final"|"all" `"all"` keeps what leaves each stage, for `chain:at`. Default:
---`"final"`
---@field seed? integer from which the random numbers of each call derive, so that they do not
---depend on `jobs`, timing or retries. Default: a random one
---@field progress? boolean|fun(done: integer, total: integer, event: fzlua.ProgressEvent) true
---shows one line for each stage; a function is called with each event as `f(done, total, event)`,
---see [fzlua.ProgressEvent](#fzluaprogressevent). Default: the option `--progress` of the command

---@class fzlua.InvokeOptions : fzlua.RunOptions
---@field outputs? string[] run only the functions that these outputs need, and keep only these.
---Default: all

---@class fzlua.StreamOptions : fzlua.LimitOptions
---@field inflight? integer items that have been read and not yet returned. Default: twice the
---workers
---@field ordered? boolean false: results come as soon as they are ready. Default: true
---@field jobs? integer functions that run at once. 0: all in this process, in order, for debugging.
---Default: `fz.cpu_count()`
---@field deadline? number seconds for the whole stream. Default: no limit
---@field on_error? "stop"|"now"|"continue" `"continue"`: a failed item gives `i, nil, err`, and the
---loop goes on. The other two raise its error in the loop. Default: `"stop"`
---@field outputs? string[] run only the functions that these outputs need, and keep only these.
---Default: all
---@field progress? boolean|fun(done: integer, total: integer, event: fzlua.ProgressEvent) true
---shows one line for each stage, which counts items; a function is called with each event as
---`f(done, total, event)`, where the total of an iterator is the number of items read until then,
---see [fzlua.ProgressEvent](#fzluaprogressevent)
---@field seed? integer from which the random numbers of each call and item derive. Default: a
---random one

---@class fzlua.MapOptions : fzlua.LimitOptions
---@field chunksize? integer elements that a worker gets at once. Default: it follows from measured
---time
---@field on_error? "stop"|"now"|"continue" `"continue"`: call all elements, raise nothing, and put
---the errors in `results.errors`. `"stop"` and `"now"` raise the first error; `"now"` also ends the
---calls that run. Default: `"stop"`
---@field progress? boolean|fun(done: integer, total: integer, event: fzlua.ProgressEvent) true
---shows a line; a function is called with each event as `f(done, total, event)`, see
---[fzlua.ProgressEvent](#fzluaprogressevent)
---@field seed? integer from which the random numbers of each element derive. Default: a random one

---@class fzlua.MapAsyncOptions : fzlua.MapOptions
---@field callback? fun(results: fzlua.Results) called in this process with the results
---@field error_callback? fun(e: fz.Error) called in this process with the error

---@class fzlua.ForkMapOptions : fzlua.MapOptions
---@field jobs? integer calls that run at once, each in a worker. 0: all in this process. Default:
---`fz.cpu_count()`
---@field init? fun() called once in each worker before its first element: the place for expensive
---set-up, in a variable that `f` has as an upvalue
---@field start? "fork"|"spawn" how workers start: see [Pools](#pools). Default: the environment
---variable `FZLUA_START`, or `"fork"`

---@class fzlua.ImapOptions : fzlua.LimitOptions
---@field chunksize? integer items that a worker gets at once; fewer at the end, and if the source
---waits or `inflight` is less. Default: it follows from measured time
---@field inflight? integer items that have been read and not yet returned. Default: some
---milliseconds of work for each worker, at most 1,024 items and 8 MiB
---@field on_error? "stop"|"now"|"continue" `"continue"`: a failed item gives `i, nil, err`, and the
---loop goes on. The other two raise its error in the loop. Default: `"stop"`
---@field progress? boolean|fun(done: integer, total: integer|nil, event: fzlua.ProgressEvent) true
---shows a line; a function is called with each event as `f(done, total, event)`, where the total of
---an iterator is nil, see [fzlua.ProgressEvent](#fzluaprogressevent)
---@field seed? integer from which the random numbers of each item derive. Default: a random one

---@class fzlua.ApplyOptions : fzlua.LimitOptions
---@field callback? fun(...) called in this process with all results. If it raises, that is logged
---@field error_callback? fun(e: fz.Error) called in this process with the error
---@field seed? integer of the random numbers of the call. Default: a random one

---@class fzlua.FoldOptions
---@field progress? boolean|fun(done: integer, total: integer|nil, event: fzlua.ProgressEvent) true
---shows a line; a function is called with each event of an item as `f(done, total, event)`, where
---the total of an iterator is nil, see [fzlua.ProgressEvent](#fzluaprogressevent)
---@field retries? integer further attempts of a chunk after an error, a crash or a timeout.
---Default: 0
---@field backoff? number seconds before the first retry, doubled before each further one. Default:
---0
---@field memory? integer|string bytes, or a text such as `"512M"`, that a worker may hold beyond
---what it inherited. Default: no limit
---@field retry_if? fun(e: fz.Error): boolean `f(e)` says whether a chunk that failed with the error
---is retried. Default: it is

---@class fzlua.ForkFoldOptions : fzlua.FoldOptions
---@field jobs? integer workers. 0: fold in this process. Default: `fz.cpu_count()`
---@field start? "fork"|"spawn" how workers start: see [Pools](#pools). Default: the environment
---variable `FZLUA_START`, or `"fork"`
