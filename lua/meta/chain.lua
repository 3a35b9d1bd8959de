---@meta _
-- Chains
--
-- A chain is a list of stages. Each function starts as soon as the inputs that it reads are there;
-- it does not wait for other functions of the stage before. Chaining makes a new chain and does not
-- change its operands.

---@class fzlua
local fz = {}

---Make a chain of stages and chains; the same as `a >> b >> c`. A stage that is in the chain twice
---is an error of kind `"graph"`.
---
---```lua
---local clean, merge = fz.stage "clean", fz.stage "merge"
---function clean.A(A) return A + 1 end
---function merge.C(A, B) return A + B end
---local chain = clean >> merge
---print(chain)                              --> StageChain(clean(1) >> merge(2))
---print(chain:invoke({A = 1, B = 2}).output.C)  --> 4
---```
---@param stages (fzlua.Stage|fzlua.Chain)[]
---@param options? fzlua.InvokeOptions defaults for the runs of the chain
---@return fzlua.Chain chain
function fz.chain(stages, options) end

---`chain(input, options)` runs the chain and returns the output table. `#chain` is the number of
---stages, `chain[i]` a stage, and `chain >> other` makes a longer chain.
---@class fzlua.Chain
---@field input table values by name; can be set
---@field output table the values that left the last stage in the last run, by name
---@field errors table<string, fz.Error> of the last run, by output: the errors of optional inputs;
---with `on_error = "continue"` all errors. A function that did not run because it depends on a
---failed one has an error of kind `"cancelled"`
---@field trace fzlua.TraceEvent[]|nil of the last run or stream, if it had the option `trace`
---@field stages fzlua.Stage[] a copy
---@field edge_table fzlua.EdgeRow[] the edges of the graph: first from each function to its output,
---then from each value to the function that reads it. `tostring` aligns them
---@field [integer] fzlua.Stage
---@operator shr(fzlua.Stage|fzlua.Chain): fzlua.Chain
---@operator len: integer
---@operator call: table
local chain = {}

---Run all functions in workers and wait. `chain.output` has the results.
---
---Raises an error of kind `"graph"` before anything runs if an input is missing, or if no function
---makes a name in the option `outputs`. Raises the error of the function that failed first, unless
---`on_error` is `"continue"`. Further errors of the run are in `e.others`.
---
---```lua
---local s = fz.stage "s"
---function s.A(A) return A + 1 end
---function s.B() error "no" end
---local chain = fz.chain{s}
---chain:invoke({A = 1}, {on_error = "continue", timeout = 5, retries = 1})
---print(chain.output.A, chain.output.B, chain.errors.B.kind) --> 2 nil error
---print(chain:invoke({A = 1}, {outputs = {"A"}}).output.A)   --> 2
---```
---@param input? table becomes `chain.input`. Default: the table that `chain.input` is
---@param options? fzlua.InvokeOptions
---@return fzlua.Chain chain
function chain:invoke(input, options) end

---Start a run and return at once.
---
---```lua
---local s = fz.stage "s"
---function s.A(A) return A + 1 end
---local future = fz.chain{s}:invoke_async {A = 1}
---print(future:await().A) --> 2
---```
---@param input? table becomes `chain.input`
---@param options? fzlua.InvokeOptions
---@return fzlua.Future future of the output table
function chain:invoke_async(input, options) end

---Run the chain for each item of a source; its stages work on different items at the same time. Use
---it as the iterator of a loop, whose end or `break` ends all work.
---
---The source is read no faster than results are taken. An error in the source is raised in the
---loop.
---
---```lua
---local parse, count = fz.stage "parse", fz.stage "count"
---function parse.fields(line) return select(2, line:gsub("%S+", "")) end
---function count.missing(fields) return 3 - fields end
---for i, out, err in (parse >> count):stream({"a b c", "a b"}, {inflight = 8}) do
---  print(i, out.missing)
---  --> 1 0
---  --> 2 1
---end
---```
---@param source table|function a list; or what a `for` loop takes: an iterator and up to three
---further values, before the options. An item is a table of inputs by name, or the chain's only
---input
---@param options? fzlua.StreamOptions
---@return fun(): integer, table, fz.Error iterator gives `i, out`, the place of an item and its
---output table; with `on_error = "continue"`, for a failed item, `i, nil, err`
function chain:stream(source, options) end

---The values that left a stage in the last run. For stages before the last one, this raises an
---error of kind `"error"` unless the run had the option `keep = "all"`.
---@param which fzlua.Stage|integer a stage of the chain, or its place from 1
---@return table values by name
function chain:at(which) end

---What each stage did to the values in the last run. Raises an error of kind `"error"` unless the
---run had the option `keep = "all"`. The rows are a list that is printed as a table. First come the
---inputs, whose stage number is -1. Then come, for each stage, the values that its functions made,
---and the values that passed through it. With the option `report`, or `--report`, the page of the
---run shows them, too.
---
---```lua
---local s, t = fz.stage "load", fz.stage "filter"
---s:register("people", {"names"}, function(names)
---  local rows = {}
---  for i, name in ipairs(names) do rows[i] = {id = i, name = name} end
---  return rows
---end)
---t:register("people", function(rows) return {rows[1]} end)
---local chain = s >> t
---chain:invoke({names = {"Ada", "Bob"}}, {keep = "all"})
---print(chain:changes())
---  --> stage_id  stage_name  name    change   type   bytes  rows  columns  was
---  -->       -1              names   input    table     14     2
---  -->        0  load        people  added    table     40     2        2
---  -->        0  load        names   passed   table     14     2
---  -->        1  filter      people  changed  table     22     1        2  2 x 2
---  -->        1  filter      names   passed   table     14     2
---```
---@return fzlua.ChangeRow[] rows
function chain:changes() end

---The same as `chain >> other`.
---@param other fzlua.Stage|fzlua.Chain
---@return fzlua.Chain chain
function chain:chain(other) end

---Forget input, output and errors.
---@return fzlua.Chain chain
function chain:prune() end

---End the workers, so that the next run forks new ones, which see the globals and upvalues of that
---time. This is not needed after a function was registered, because its stage then gets new workers
---anyway.
---@return fzlua.Chain chain
function chain:reset() end

---End the workers; runs and streams under way are cancelled. A later run forks workers again. At
---the end of the scope of a `<close>` variable, runs under way are finished first, unless an error
---leaves the scope.
function chain:close() end

---@class fzlua.ChangeRow
---@field stage_id integer from 0; -1: an input of the chain
---@field stage_name string
---@field name string of the value
---@field change "input"|"added"|"changed"|"same"|"passed"|"dropped" `"changed"`: a function made a
---value of a name that was there; `"same"`: that value has the same contents as before;
---`"passed"`: no function makes it; `"dropped"`: it did not pass, because of `pass_input = false`
---@field type string
---@field bytes integer|nil of the value as it is sent; nil if it cannot be sent
---@field rows integer|nil of a list: its elements
---@field columns integer|nil of a list of records (tables with names as keys): the number of
---different names
---@field names string[]|nil these names, sorted; not printed
---@field was string|nil of a changed value: its rows and columns before, or its size

---@class fzlua.ChainRow
---@field stage_id integer from 0
---@field stage_name string
---@field output string
---@field prev_stage_id integer stage that made the input; -1: it is an input of the chain
---@field inputs string name of one input; an output with several has several rows
---@field func string such as `function A`

---The functions of the chain as a table with one row for each input of each output. `tostring`
---aligns it.
---@return fzlua.ChainRow[] rows
function chain:as_table() end

---@class fzlua.EdgeRow
---@field source_id integer stage from 0; -1: an input of the chain
---@field source_ele string name of a value, or `function NAME`
---@field target_id integer
---@field target_ele string

---A picture of the chain in the language of Mermaid. The same chain gives the same bytes.
---@return string text
function chain:to_mermaid() end

---A picture of the chain in the language DOT of Graphviz.
---@return string text
function chain:to_dot() end
