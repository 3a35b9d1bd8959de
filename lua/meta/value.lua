---@meta _
-- Shared numbers
--
-- The type of a number is a code of `string.pack`: `b B h H i I l L j J` are integers of 8 to 64
-- bits, signed and unsigned; `f` and `d` floats; `n` is a `lua_Number`. A number that does not fit
-- raises an error.

---@class fzlua
local fz = {}

---Make a number that processes share.
---
---```lua
---local v = fz.value("j", 0)
---fz.map(function(x) v:add(x) end, {1, 2, 3})
---print(v.value) --> 6
---```
---@param code string type of the number
---@param number? number Default: 0
---@return fzlua.Value value
function fz.value(code, number) end

---@class fzlua.Value
---@field value number a read never waits; a write waits while another process is in `with`
local value = {}

---Add in one atomic step.
---@param n number
---@return number sum
function value:add(n) end

---Call `f(value)` while no other process changes the number.
---@param f fun(v: fzlua.Value): ...
---@return any ... all results of `f`
function value:with(f) end

---Make an array of numbers that processes share.
---
---```lua
---local a = fz.array("d", {0.5, 1.5, 2.5})
---a[1] = 9
---print(#a, a[1], a[4], table.concat(a:slice(2, 3), " ")) --> 3 9.0 nil 1.5 2.5
---```
---@param code string type of the numbers
---@param numbers integer|number[] their count, all 0; or a list
---@return fzlua.Array array
function fz.array(code, numbers) end

---`array[i]` reads and writes, from 1; `#array` is the length. A read outside gives nil, a write
---outside raises an error. Each number is read and written in one atomic step, without a lock.
---@class fzlua.Array
---@field [integer] number
---@operator len: integer
local array = {}

---All numbers as a list.
---@return number[] list
function array:totable() end

---Some numbers as a list.
---@param i? integer negative: from the end, as in `string.sub`. Default: 1
---@param j? integer Default: -1
---@return number[] list
function array:slice(i, j) end

---Set all numbers.
---@param x number
function array:fill(x) end

---Call `f(array)` while no other process is in `with` of this array.
---@param f fun(a: fzlua.Array): ...
---@return any ... all results of `f`
function array:with(f) end
