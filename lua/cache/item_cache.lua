--- item_cache.lua - recorded results for the items of one map or imap, or for one call of a pool.
--
-- The key of an item is the digest of its function, its value, and everything else that decides its
-- result.

local Error = require "fzlua.error"
local Store = require "fzlua.store"
local Trace = require "fzlua.trace"
local core = require "fzlua.core"

---@class fzlua.ItemCache
---@field _base fzlua.Call what all items have in common; its key is a part of theirs
---@field _keys table<integer, string> by number, of items whose results are not recorded
local ItemCache = {}
ItemCache.__index = ItemCache
ItemCache.__name = "fzlua.ItemCache"

local TOGETHER <const> = 512 -- number of elements that are looked up together

-- Version of the encoding of values. It is a part of each key: a new encoding finds no old results.
local FORMAT <const> = core.encode(nil):byte(1)

local function reason(e)
  if Error.is(e, "interrupted") then error(e, 0) end
  return Error.is(e) and e.message or tostring(e)
end

---@class fzlua.ItemCacheOptions
---@field cache boolean|nil
---@field resume boolean|string|nil
---@field version string|nil
---@field given_seed integer|nil nil if the user has set none
---@field init function|nil of the workers
---@field call string the call, as the user writes it

---The cache of a map or a call; nil if the options ask for no cache, or if its file cannot be used.
---@param options fzlua.ItemCacheOptions
---@param f function
---@param kind "map"|"starmap"|"call"
---@return fzlua.ItemCache|nil
function ItemCache.new(options, f, kind)
  local wanted = options.cache
  if wanted == nil then wanted = options.resume end
  local store = wanted and Store.acquire(Store.path_of(options))
  if not store then return nil end
  local self = setmetatable({ _store = store, _keys = {}, _session = {} }, ItemCache)
  local name, seed = Trace.label(options.call, f), options.given_seed
  local ok, func = pcall(core.digest_in, self._session, f, options.init)
  if not ok then
    store:release()
    Store.warn(name, reason(func))
    return nil
  end
  self._base = {
    name = name, func = func, version = options.version, seed = seed, names = { "item" },
    inputs = {}, files = false, n = 1, whole = kind == "call",
    key = core.digest_in(self._session, "fzlua item", FORMAT, kind, func, options.version, seed),
  }
  return self
end

local function key_of(self, number, ...)
  local base = self._base
  local ok, digest = pcall(core.digest_in, self._session, ...)
  if ok then return core.hash(base.key .. digest .. (base.seed and ("j"):pack(number) or "")) end
  Store.warn(base.name, ("item %d: %s"):format(number, reason(digest)))
end

---The recorded result of an item, or the results of a call.
---@param number integer
---@param ... any the item, or the arguments
---@return string|nil encoded; nil: the function must be called
function ItemCache:find(number, ...)
  local key = key_of(self, number, ...)
  if not key then return nil end
  local found = self._store:find(key, self._base)
  if not found then
    self._keys[number] = key
    return nil
  end
  local results <close> = found.results
  return results:bytes(found.places[1])
end

-- Do the work of ItemCache:recall() for the elements from number `from` to number `last`.
local function recall(self, list, from, last, know)
  local keys = {}
  for i = from, last do keys[#keys + 1] = key_of(self, i, list[i]) or false end
  local found = self._store:find_all(keys, 1, function() return self._base end)
  for k, key in ipairs(keys) do
    local number, place = from + k - 1, found.places[k]
    if place then
      know(number, found.results, place)
    else
      self._keys[number] = key or nil
    end
  end
  if found.results then found.results:close() end
end

---Call know(number, results, place) for each element of a list whose result is recorded, in the
---order of the list.
---@param list table
---@param n integer
---@param know fun(number: integer, results: userdata, place: integer)
function ItemCache:recall(list, n, know)
  for from = 1, n, TOGETHER do
    recall(self, list, from, math.min(from + TOGETHER - 1, n), know)
  end
  self._store:flush()
end

---Record the result of an item or call that find() did not find. flush() writes it to the file.
---@param number integer
---@param ... any one value, or the results of a call
function ItemCache:record(number, ...)
  local key = self._keys[number]
  self._keys[number] = nil
  if not key then return end
  local ok, e = pcall(self._store.add_values, self._store, self._base, key, ...)
  if not ok then Store.warn(self._base.name, reason(e)) end
end

---Note that an item has failed.
---@param number integer
---@param e fz.Error
function ItemCache:fail(number, e)
  if Error.is(e, "cancelled") or Error.is(e.cause, "interrupted") then return end
  self._store:fail(self._base.name, self._keys[number], e.message or "")
end

---Write the new records to the file.
function ItemCache:flush() self._store:flush() end

---End the use of the cache. Idempotent.
function ItemCache:release()
  if not self._store then return end
  self._store:flush()
  self._store:release()
  self._store = nil
end

return ItemCache
