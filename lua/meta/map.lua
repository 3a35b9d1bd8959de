---@meta _
-- Maps and folds
--
-- These calls fork workers for one call, so that the workers inherit the function and the list:
-- only results are sent.

---@class fzlua
local fz = {}

---@class fzlua.Results
---@field [integer] any the first result of each call; nil if it returned nothing or failed
---@field n integer length of the list that was mapped
---@field errors table<integer, fz.Error>|nil with `on_error = "continue"`: the errors by place

---Call a function with each element of a list, in worker processes.
---
---Raises the error of the element that failed first, whose place is `e.index`; further errors are
---in `e.others`.
---
---```lua
---local squares = fz.map(function(x) return x * x end, {1, 2, 3}, {jobs = 2})
---print(squares.n, squares[3]) --> 3 9
---
---local some = fz.map(function(x) return 1 // x end, {1, 0}, {on_error = "continue"})
---print(some[1], some[2], some.errors[2].kind) --> 1 nil error
---```
---@param f fun(element: any): any its first result is kept
---@param list table a list; its field `n` is its length if it has holes
---@param options? fzlua.ForkMapOptions
---@return fzlua.Results results
function fz.map(f, list, options) end

---As `fz.map`, but call `f(table.unpack(element))`.
---
---```lua
---print(fz.starmap(math.max, {{1, 5}, {4, 2}})[2]) --> 4
---```
---@param f function
---@param list table[]
---@param options? fzlua.ForkMapOptions
---@return fzlua.Results results
function fz.starmap(f, list, options) end

---Reduce items in workers. A worker computes `acc = f(acc, item)` for consecutive items, from a
---copy of `init`; this process then merges the results in the order of the items. The result is
---that of a loop if `init` changes nothing and it does not matter where the items are divided.
---
---```lua
---local sum = fz.fold(function(acc, x) return acc + x end, {1, 2, 3, 4}, 0,
---  function(a, b) return a + b end)
---print(sum) --> 10
---```
---@param f fun(acc: any, item: any): any
---@param items table|function a list, or an iterator that returns one item per call
---@param init any
---@param merge fun(a: any, b: any): any called in this process
---@param options? fzlua.ForkFoldOptions
---@return any acc
function fz.fold(f, items, init, merge, options) end

---@class fzlua.ChunksOptions
---@field size? integer|string bytes, or a text such as `"1M"`, the default

---Read a file in pieces that end where a line ends, as items for `imap`, `fold` and streams. A line
---that is longer than `size` is a piece of its own. Raises an error of kind `"error"` if the file
---cannot be read.
---
---```lua
---local lines = 0
---for piece in fz.chunks("LICENSE", {size = "4K"}) do
---  lines = lines + select(2, piece:gsub("\n", ""))
---end
---print(lines) --> 21
---```
---@param path string
---@param options? fzlua.ChunksOptions
---@return fun(): string iterator of strings
function fz.chunks(path, options) end
