---@meta _
-- Graphs without stages
--
-- A dag is a set of functions that name the functions whose results they need. Names that no
-- function makes are inputs.

---@class fzlua
local fz = {}

---@class fzlua.DagOptions : fzlua.RunOptions
---@field name? string for progress lines. Default: `"dag"`
---@field workers? integer worker processes. Default: as many as can be busy at once
---@field init? fun() called once in each worker before its first job
---@field start? "fork"|"spawn" how workers start: see [Pools](#pools). Default: the environment
---variable `FZLUA_START`, or `"fork"`

---Make an empty graph. All other options are defaults for its runs.
---
---```lua
---local g = fz.dag()
---g:add("sum", {"a", "b"}, function(a, b) return a + b end)
---g:add("twice", {"sum"}, function(sum) return 2 * sum end)
---print(g:invoke({a = 1, b = 2}).output.twice) --> 6
---```
---@param options? fzlua.DagOptions
---@return fzlua.Dag dag
function fz.dag(options) end

---`dag(input, options)` runs the graph and returns the output table.
---@class fzlua.Dag
---@field input table values by name; can be set
---@field output table the outputs of all functions in the last run
---@field errors table<string, fz.Error> of the last run, by output; see [chain](#chain)
---@field trace fzlua.TraceEvent[]|nil of the last run or stream, if it had the option `trace`
---@operator call: table
local dag = {}

---Add a function. It replaces a function for the same output that has been in a run. Two functions
---for one output without a run between them are an error of kind `"graph"` that names both places,
---except at the prompt. A cycle is an error of this kind when the graph runs; the error shows the
---cycle.
---@param output string|string[] a name, or a name for each result of `f`
---@param inputs? string|string[] names of outputs, which may be added later, or of inputs of the
---dag. Default: none
---@param f function
---@param options? fzlua.FunctionOptions
---@return function f the same function
---@overload fun(self, output: string, f: function, options?: fzlua.FunctionOptions): function
function dag:add(output, inputs, f, options) end

---Add a function that is called for each element of a list, see [stage:map](#stagemap).
---@param output string
---@param inputs string|string[] the list, then what each call gets after its element
---@param f fun(element: any, ...): any
---@param options? fzlua.FunctionOptions for each element
---@return function f the same function
function dag:map(output, inputs, f, options) end

---Run all functions in workers and wait; see [chain:invoke](#chaininvoke).
---@param input? table becomes `dag.input`
---@param options? fzlua.InvokeOptions
---@return fzlua.Dag dag
function dag:invoke(input, options) end

---Start a run and return at once.
---@param input? table becomes `dag.input`
---@param options? fzlua.InvokeOptions
---@return fzlua.Future future of the output table
function dag:invoke_async(input, options) end

---Run the graph for each item of a source; see [chain:stream](#chainstream).
---@param source table|function
---@param options? fzlua.StreamOptions
---@return fun(): integer, table, fz.Error iterator
function dag:stream(source, options) end

---Forget input, output and errors.
---@return fzlua.Dag dag
function dag:prune() end

---End the workers, so that the next run forks new ones.
---@return fzlua.Dag dag
function dag:reset() end

---End the workers; runs and streams under way are cancelled.
function dag:close() end

---@class fzlua.DagRow
---@field output string
---@field inputs string name of one input; an output with several has several rows
---@field func string such as `function c`

---The functions as a table with one row for each input of each output. `tostring` aligns it.
---@return fzlua.DagRow[] rows
function dag:as_table() end

---A picture in the language of Mermaid.
---@return string text
function dag:to_mermaid() end

---A picture in the language DOT of Graphviz.
---@return string text
function dag:to_dot() end
