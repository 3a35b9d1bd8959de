---@meta _
-- Values that cross processes
--
-- Arguments, results, items of queues and inputs of chains are copied. These cross: nil, booleans,
-- numbers, strings, tables with all shared references and cycles, Lua functions with their
-- upvalues, functions and tables of loaded modules by name, the standard files, and the shared
-- objects of this library. Coroutines and userdata of other libraries do not: they raise an error
-- of kind `"unsendable"` with the path to the value.

---@class fzlua
local fz = {}

---Let objects with this metatable cross processes. Register the metatable under the same name in
---all processes: before the workers are forked, or in `init`. A table whose metatable is not
---registered crosses without it.
---
---The metatable may have `__fzpack(self)`, which returns a plain value to send instead, and
---`__fzunpack(plain)`, which makes the object. Userdata can cross only in this way.
---
---```lua
---local Point = {}
---Point.__index = Point
---function Point:norm() return math.sqrt(self.x ^ 2 + self.y ^ 2) end
---fz.register_class("Point", Point)
---local p = fz.map(function(x) return setmetatable({x = x, y = 4}, Point) end, {3})[1]
---print(p:norm()) --> 5.0
---```
---@param name string
---@param metatable table
---@return table metatable
function fz.register_class(name, metatable) end

---Let a table or userdata cross by name, such as the `null` of a JSON library. Each process
---registers its own.
---@param name string
---@param value table|userdata
---@return table|userdata value
function fz.register_value(name, value) end

---Encode values as a string, for files and sockets. Raises kind `"unsendable"`; shared objects
---cannot be packed.
---
---```lua
---local list = {1, "two"}
---list.self = list
---local copy = fz.unpack(fz.pack(list))
---print(copy[2], copy.self == copy) --> two true
---```
---@param ... any
---@return string bytes
function fz.pack(...) end

---@class fzlua.UnpackOptions
---@field functions? boolean true: accept functions, for bytes from a trusted source only. Default:
---false

---Decode what `fz.pack` made. Bytes of any kind either return values or raise an error of kind
---`"error"`.
---@param bytes string
---@param options? fzlua.UnpackOptions
---@return any ... the values
function fz.unpack(bytes, options) end

---A digest of values, the same for the same values in every process and run: XXH3 with 128 bits.
---The order in which keys were added does not count. Integers and floats differ, as do 0.0 and
---minus 0.0, and references to one object differ from references to equal ones.
---
---The digest of a function depends on its bytecode without line numbers and names of variables, its
---upvalues, the values of the globals that it reads, and the modules that it requires: their files,
---and the strings, numbers and booleans that are in their tables now, except under names that begin
---with an underscore. Of a registered class the name and the methods count, of Lua's own modules
---the name and what the script has put into them, of library functions only the name. Coroutines,
---shared objects and userdata without `__fzpack` raise an error of kind `"unsendable"`.
---
---```lua
---print(fz.digest {1, x = "two"}) --> e59547039faa2323c18155e677f1cf77
---```
---@param ... any
---@return string digest 32 hexadecimal digits
function fz.digest(...) end
