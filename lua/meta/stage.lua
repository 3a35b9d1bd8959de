---@meta _
-- Stages
--
-- A stage is a set of functions, each named by its output. A function reads the input of the stage,
-- never the outputs of its own stage. Values that no function of the stage makes pass through.

---@class fzlua
local fz = {}

---@class fzlua.StageOptions : fzlua.RunOptions
---@field name? string for errors, pictures and progress. Default: `"stage"`
---@field workers? integer worker processes of the stage. Default: as many as can be busy at once
---@field init? fun() called once in each worker before its first job: the place for expensive
---set-up, in a variable that the functions have as an upvalue. Its error is the job's error
---@field start? "fork"|"spawn" how workers start: see [Pools](#pools). Default: the environment
---variable `FZLUA_START`, or `"fork"`
---@field pass_input? boolean false: names that no function makes do not pass through. Default: true

---Make a stage. All other options are defaults for the runs of chains that contain it.
---
---```lua
---local clean = fz.stage "clean"
---function clean.A(A) return A + 1 end          -- the output A, from the input A
---clean:register("C", {"A", "B"}, function(a, b) return a + b end)
---print(fz.chain{clean}({A = 1, B = 2}).C)      --> 3
---```
---@param options string|fzlua.StageOptions the name, or a table of options
---@return fzlua.Stage stage
function fz.stage(options) end

---`function stage.NAME(a, b)` registers a function whose output is NAME and whose inputs are the
---names of its parameters. A NAME that is a member of every stage raises an error: use `register`.
---`stage(name, ...)` is `stage:invoke(name, ...)`, and `stage >> other` makes a chain.
---@class fzlua.Stage
---@field name string
---@field input table values by name, for `invoke` and `invoke_all`; can be set
---@field output table values by name that `invoke` and `invoke_all` have made
---@field funcs table<string, function> the functions by output; a copy
---@field funcs_args table<string, string[]> the names of the inputs by output; a copy
---@field pass_input boolean whether names that no function makes pass through; can be set
---@field workers integer|nil number of worker processes, if the option was given; can be set
---@field init function|nil the option `init`
---@operator shr(fzlua.Stage|fzlua.Chain): fzlua.Chain
---@operator call: any
local stage = {}

---Register a function. A function that was registered for the same output before is replaced.
---
---```lua
---local s = fz.stage "s"
---s:register("A", function(a) return a + 1 end)                             -- the input A
---s:register({"min", "max"}, {"list"}, function(list)                       -- two results
---  table.sort(list)
---  return list[1], list[#list]
---end, {timeout = 5})
---local out = fz.chain{s} {A = 1, list = {3, 1, 2}}
---print(out.A, out.min, out.max) --> 2 1 3
---```
---@param output string|string[] a name, or a name for each result of `f`
---@param inputs? string|string[] names of values of the stage before, in the order of f's
---parameters. Default: the name of the output
---@param f function
---@param options? fzlua.FunctionOptions
---@return function f the same function
---@overload fun(self, output: string, f: function, options?: fzlua.FunctionOptions): function
function stage:register(output, inputs, f, options) end

---Register a function that is called for each element of a list, each call a job of its own. The
---output is the list of the first results, with its length as `n`.
---
---If an element fails in its last attempt, its error has the place in the list as `index`. With
---`on_error = "continue"` the other elements are called; the output is then a list with nil for the
---failed ones and their errors in `errors`, and functions that read it are not run.
---
---```lua
---local s = fz.stage "s"
---s:map("squares", {"numbers", "plus"}, function(x, plus) return x * x + plus end)
---local squares = fz.chain{s} {numbers = {1, 2, 3}, plus = 10} .squares
---print(squares.n, squares[1], squares[2], squares[3]) --> 3 11 14 19
---```
---@param output string
---@param inputs? string|string[] the list, then what each call gets after its element. Default: a
---list with the name of the output
---@param f fun(element: any, ...): any
---@param options? fzlua.FunctionOptions for each element
---@return function f the same function
---@overload fun(self, output: string, f: function, options?: fzlua.FunctionOptions): function
function stage:map(output, inputs, f, options) end

---Call one function in this process with values of `stage.input`, for tests and debugging. If no
---function makes `name`, the input of that name is returned.
---@param name string an output
---@param ... any further arguments after the inputs
---@return any value the output, which is also in `stage.output`
function stage:invoke(name, ...) end

---Run all functions in workers on `stage.input`. `stage.output` has the results.
---@param options? fzlua.InvokeOptions
---@return fzlua.Stage stage
function stage:invoke_all(options) end

---The same as `stage >> other`.
---@param other fzlua.Stage|fzlua.Chain
---@return fzlua.Chain chain
function stage:chain(other) end

---Forget input and output.
---@return fzlua.Stage stage
function stage:prune() end
