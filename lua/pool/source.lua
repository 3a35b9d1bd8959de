--- source.lua - the items of an imap or a stream: a list, or an iterator as a for loop takes it.

local check = require "fzlua.check"
local core = require "fzlua.core"
local lists = require "fzlua.lists"

---@class fzlua.Source
---@field next fun(): any the next item; nil at the end; NOTHING for a nil element of a list
---@field packed boolean whether each item is the list of all values that the iterator returned
---@field n integer|nil number of items, if it is known
---@field closing any closing value of the iterator
local source = {}

local NOTHING <const> = core.nil_item
source.NOTHING = NOTHING

local function of_list(list)
  local n, i = lists.length(list), 0
  local function following()
    if i >= n then return nil end
    i = i + 1
    local item = list[i]
    if item == nil then return NOTHING end
    return item
  end
  return { next = following, packed = false, n = n }
end

-- The source for an iterator. If there is a state or a control value, the iterator is called as in
-- a `for` loop, and each item is the list of all values that the iterator returns.
local function of_iterator(iterator, state, control, closing)
  if state == nil and control == nil then
    return { next = iterator, packed = false, closing = closing }
  end
  local function following()
    local values = table.pack(iterator(state, control))
    control = values[1]
    if control == nil then return nil end
    return values
  end
  return { next = following, packed = true, closing = closing }
end

local function is_callable(value)
  return type(value) == "function" or (getmetatable(value) or {}).__call ~= nil
end

---Split the arguments of a call that has a source. They are (source [, options]), or (source,
---state, control [, closing [, options]]) if the source is an iterator from pairs() or a similar
---function.
---@param what string the call
---@param arg integer number of the argument `first`
---@param first any a list or an iterator
---@return fzlua.Source, any options
function source.arguments(what, arg, first, ...)
  local options, state, control, closing
  if select("#", ...) <= 1 then
    options = ...
  else
    state, control, closing, options = ...
  end
  check.iterator(first, state, arg, what)
  if is_callable(first) then return of_iterator(first, state, control, closing), options end
  if type(first) ~= "table" then
    check.fail("bad argument #%d to '%s' (a list or an iterator expected, got %s)", arg, what,
      first == nil and "no value" or check.typename(first))
  end
  return of_list(first), options
end

return source
