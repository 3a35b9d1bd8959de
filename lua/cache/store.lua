--- store.lua - the file with the recorded results of calls: a database of SQLite.
--
-- Only the process that opened the file uses the connection: see cache/sqlite.h. A problem with
-- the file never fails a run: the problem is logged once, and the file is not used any more. If
-- the disk is full, the file is read, but not written.
--
--   calls     one row for each call, by its key; `tick` is the number of the run that used it last
--   results   one row for each value of a call: its digest, a checksum of the row, and the bytes.
--             `raw` is the length of the encoded value if the bytes are compressed, else 0
--   failures  the last failure of each function, by its name

local Error = require "fzlua.error"
local cache_file = require "fzlua.cache_file"
local check = require "fzlua.check"
local core = require "fzlua.core"
local file = require "fzlua.file"
local log = require "fzlua.log"

---@class fzlua.Store
---@field path string
---@field limit integer maximum number of bytes of all results
---@field read_only boolean whether nothing is recorded
local Store = {}
Store.__index = Store
Store.__name = "fzlua.Store"

local LONGEST <const> = 0.05 -- maximum time in seconds that a transaction stays open
local COMPRESSED <const> = 64 * 1024 -- a value with more bytes is compressed
local TOGETHER <const> = 64 -- number of calls that are read by one statement
local LIMIT <const> = 1 << 30 -- limit in bytes if FZLUA_CACHE_SIZE is not set
local USES <const> = 1 << 20 -- maximum number of used calls that are noted in memory
local LATE <const> = 8 -- number of runs after which a last use is written again
local ROW <const> = 256 -- approximate number of bytes of a row of `calls`
local ENOENT <const> = 2 -- error code of io.open for a file that does not exist
-- Codes of errors: SQLITE_CORRUPT, SQLITE_FULL, SQLITE_CONSTRAINT.
local CORRUPT <const>, FULL <const>, CONSTRAINT <const> = 11, 13, 19
local FUNCTIONS <const> = 2 -- bit in the second byte of an encoded value with functions

-- Why a value with functions is not recorded.
Store.FUNCTIONS = "a function is among its values"

---The file that is used if the script names no other file.
---@return string
function Store.default_path()
  local path = os.getenv "FZLUA_CACHE"
  return path and path ~= "" and path or ".fzlua/cache.db"
end

---The file that the options name.
---@param options table
---@return string
function Store.path_of(options)
  return type(options.resume) == "string" and options.resume or Store.default_path()
end

local warned = {} -- set of the functions (by name) about which a warning was logged

---Log that the calls of a function are not recorded, but only once for each function.
---@param name string
---@param why string
function Store.warn(name, why)
  if warned[name] then return end
  warned[name] = true
  log.warn("%s is not recorded: %s", name, why)
end

local function size_limit()
  local text = os.getenv "FZLUA_CACHE_SIZE"
  if not text or text == "" then return LIMIT end
  local ok, size = pcall(check.option, "memory", text, "FZLUA_CACHE_SIZE")
  if ok then return size end
  log.warn("FZLUA_CACHE_SIZE is %q, not a number of bytes or a text such as 512M: the limit is 1G",
    text)
  return LIMIT
end

local function text_of(e)
  return Error.is(e) and e.message or tostring(e)
end

local ADVICE <const> = {
  [CORRUPT] = "; remove the file to begin a new one",
  [FULL] = "; free some space, or remove the file",
}

---The text of an error of the database, and what the user can do about it.
---@param e any
---@return string
function Store.advice(e) return text_of(e) .. (Error.is(e) and ADVICE[e.code] or "") end

-- Returns why a file cannot be written, or nil if it can be written.
local function refusal(path)
  local size = io.open(path)
  if size then size:close() end
  local made, why = io.open(path, "a")
  if not made then return (why:gsub("^.*: ", "")) end
  made:close()
  if not size then os.remove(path) end
end

local function is_there(path)
  local stream <close>, _, code = io.open(path)
  return stream ~= nil or code ~= ENOENT
end

---Open the file, or make it. If the file may not be written, its results are used, but no results
---are recorded. Raises a string.
---@param path string
---@param exists? boolean whether the file must exist
---@return fzlua.Store
function Store.open(path, exists)
  if exists and not is_there(path) then error("there is no cache " .. path, 0) end
  local read_only = core.is_read_only(path)
  local unmade = not (exists or read_only) and cache_file.make_directory(path)
  local ok, db, file_path = pcall(cache_file.open, path, exists, read_only)
  if not ok then
    if Error.is(db, "interrupted") then error(db, 0) end
    local why = unmade or refusal(path)
    why = why and ": " .. why or ""
    error(("the cache %s is not used: %s%s"):format(path, Store.advice(db), why), 0)
  end
  return setmetatable({
    path = path, limit = size_limit(), read_only = read_only, _db = db, _began = false,
    _reading = false, _total = false, _tick = false, _exact = false, _used = {}, _broken = {},
    _failures = false, _zstd = nil, _users = 0, _file = file_path or path,
    _id = core.file_id(file_path or path), _has_recorded = false,
    _crowded = 0, -- number of results of this run that were removed because of the limit
    _session = false, -- session of digests of the values that are recorded until the next flush()
    _lost = {}, -- functions for which it was logged that a result is lost
    _nlost = 0, -- further results that are lost
  }, Store)
end

local open = {} -- path -> the store in use
local refused = {} -- path -> true: the file could not be used, which was logged
local known_as_read_only = {} -- path -> true: the file may not be written, which was logged
local full = {} -- path -> true: the disk of the file is full, which was logged
local forked = false

core.on_fork(function() open, forked = {}, true end)

---The store of a file for a run, which ends its use with release(). Returns nil if it cannot be
---used, which is logged the first time.
---@param path string
---@return fzlua.Store|nil
function Store.acquire(path)
  if forked or refused[path] then return nil end
  if not open[path] then
    local ok, store = pcall(Store.open, path)
    if not ok then
      if Error.is(store, "interrupted") then error(store, 0) end
      log.warn("%s", store)
      refused[path] = true
      return nil
    end
    open[path] = store
    store.read_only = store.read_only or full[path] == true
    if store.read_only and not full[path] and not known_as_read_only[path] then
      known_as_read_only[path] = true
      log.warn("the cache %s cannot be written: its results are used, but no new ones are recorded",
        path)
    end
  end
  open[path]._users = open[path]._users + 1
  return open[path]
end

---End the use of a store by a run.
function Store:release()
  self._users = self._users - 1
  if self._users > 0 then return end
  if open[self.path] == self then open[self.path] = nil end
  self:close()
end

-- Stop recording, because the disk is full. The results in the file are still used.
local function stop_recording(self, e)
  full[self.path], self.read_only, self._used = true, true, {}
  log.warn("the cache %s: %s: its results are used, but no new ones are recorded", self.path,
    text_of(e))
  self._db:run "ROLLBACK"
  self._began, self._reading = false, false
end

-- Stop using the file, because of an error.
local function fail(self, e)
  if Error.is(e, "interrupted") then error(e, 0) end
  local is_full = Error.is(e) and e.code == FULL and not self.read_only
  if is_full and pcall(stop_recording, self, e) then return end
  refused[self.path] = true
  if not is_full then
    log.warn("the cache %s is not used any more: %s", self.path, Store.advice(e))
  end
  local db = self._db
  self._db = nil
  pcall(db.run, db, "ROLLBACK")
  pcall(db.close, db)
end

-- Call f(self, ...); nil after an error.
local function try(self, f, ...)
  if not self._db then return nil end
  local results = table.pack(pcall(f, self, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  fail(self, results[2])
end

local function commit(self)
  if self._began or self._reading then self._db:run "COMMIT" end
  self._began, self._reading = false, false
end

-- Begin to write. First end a transaction that only reads, or has been open for long.
local function begin(self)
  if self._reading or self._began and core.now() - self._began > LONGEST then commit(self) end
  if self._began then return end
  self._db:run "BEGIN IMMEDIATE"
  self._began = core.now()
end

-- Write which recorded calls were used. The keys are sorted, so that each page of the file is
-- changed only once.
local function write_uses(self)
  local used = self._used
  self._used = {}
  table.sort(used)
  for _, key in ipairs(used) do
    begin(self)
    self._db:run("UPDATE calls SET tick = ? WHERE key = ?", self._tick, key)
  end
end

local function flush(self)
  if #self._used >= USES then write_uses(self) end
  commit(self)
end

---Write the new records to the file.
function Store:flush()
  self._session = false -- classes may change from now on
  try(self, flush)
end

-- The number of this run. Sets _exact: if the file is so large that results may soon be removed,
-- each use of a call is noted, because the calls that were used least recently are removed first.
local function tick_of(self)
  if not self._tick then
    self._tick = cache_file.number(self._db, "SELECT coalesce(max(tick), 0) FROM calls") + 1
    local size = cache_file.number(self._db, "PRAGMA page_count")
      * cache_file.number(self._db, "PRAGMA page_size")
    self._exact = size > self.limit // 2
  end
  return self._tick
end

---Whether an encoded value contains functions or modules. Such a value is not recorded.
---@param bytes string
---@return boolean
function Store.has_functions(bytes) return #bytes < 2 or bytes:byte(2) & FUNCTIONS ~= 0 end

local function compress(self, bytes)
  if #bytes <= COMPRESSED then return bytes, 0 end
  if self._zstd == nil then
    local ok, zstd = pcall(core.zstd)
    if not ok then log.debug("results are recorded uncompressed: %s", text_of(zstd)) end
    self._zstd = ok and zstd
  end
  local packed = self._zstd and self._zstd:compress(bytes)
  -- Keep the compressed value only if it is much shorter, because to expand it takes longer than to
  -- read a few more bytes.
  if packed and #packed < #bytes // 4 * 3 then return packed, #bytes end
  return bytes, 0
end

local function remove(self, key)
  self._db:run("DELETE FROM calls WHERE key = ?", key)
  self._db:run("DELETE FROM results WHERE key = ?", key)
end

local function total(self)
  return self._total or cache_file.number(self._db, "SELECT coalesce(sum(size), 0) FROM calls")
end

-- Remove the least recently used calls until the other calls take at most `size` bytes.
local function shrink(self, size)
  local left, removed = total(self), 0
  while left > size do
    local rows = self._db:run "SELECT key, size, tick FROM calls ORDER BY tick LIMIT 64"
    if #rows == 0 then break end
    for _, row in ipairs(rows) do
      if left <= size then break end
      remove(self, row[1])
      left, removed = left - row[2], removed + 1
      if row[3] == self._tick then self._crowded = self._crowded + 1 end
    end
  end
  self._total = left
  return removed
end

-- Rows of the results of calls, with the columns `files` and `tick` of the call.
local READ <const> = [[SELECT key, files, tick, i, digest, sum, raw, bytes FROM calls
  LEFT JOIN results USING (key) WHERE key IN (%s)]]
local READ_ONE <const> = READ:format "?"
local READ_MANY <const> = READ:format(("?"):rep(TOGETHER, ", "))

-- Read calls in one transaction, which flush() ends.
local function read_calls(self, keys, counts)
  if #keys > 1 and not (self._began or self._reading) then
    self._db:run "BEGIN"
    self._reading = true
  end
  local now = not self.read_only and tick_of(self)
  local since = now and (self._exact and now or now - LATE + 1) or 0
  return core.results(self._db, keys[2] == nil and READ_ONE or READ_MANY, keys, counts, since,
    self._used)
end

-- Note that a call was used in this run.
local function use(self, key, tick)
  local now = not self.read_only and self._tick
  if now and now > tick and (self._exact or now - tick >= LATE) then
    self._used[#self._used + 1] = key
  end
end

-- The digest of value `i`, as this process decodes it. Raises if it is not the value of one result,
-- unless the results of a call are one value.
local function digest_of(session, results, i, whole_call)
  local values = table.pack(results:decode(i))
  if values.n ~= 1 and not whole_call then error("it is not one value", 0) end
  return core.digest_in(session, table.unpack(values, 1, values.n))
end

-- Whether value `i` is the one that was recorded. If not, also why, unless a file in it has
-- changed.
local function is_same(found, i, whole_call)
  local before = file.seen
  local ok, digest = pcall(digest_of, found.session, found.results, i, whole_call)
  if ok and digest == found.digests[i] then return true end
  if Error.is(digest, "interrupted") then error(digest, 0) end
  if file.seen ~= before then return false end
  if not ok then return false, text_of(digest) end
  local complete, why = pcall(found.results.decode, found.results, i, true)
  return false, complete and "its contents have changed" or text_of(why)
end

-- Whether the values with the numbers `first` to `first + n - 1` are the recorded ones.
local function are_same(found, first, n, whole_call)
  for i = first, first + n - 1 do
    local same, why = is_same(found, i, whole_call)
    if not same then return false, why end
  end
  return true
end

-- Log that a result is lost. Only the first result of each function is logged, because a file from
-- another version may have many; close() logs the number of the others.
local function warn_lost(self, name, fmt, ...)
  if self._lost[name] then
    self._nlost = self._nlost + 1
  else
    self._lost[name] = true
    log.warn("the cache %s: the result of %s " .. fmt, self.path, name, ...)
  end
end

-- Note that the results of a call cannot be read.
local function note_broken(self, key, name, why)
  if self._broken[key] then return end
  self._broken[key] = true
  warn_lost(self, name, "cannot be read and is computed again: %s",
    (why:match "^[^\n]*":gsub(":$", "")))
end

-- Decide about call number `k`, which cannot be read, or whose values must be decoded to see
-- whether they can be used.
local function check_odd(self, found, k, what, key, n, call)
  local same, why = false, what
  if type(what) ~= "string" then
    same, why = are_same(found, found.places[k], n, call.whole)
  end
  if same then return use(self, key, what) end
  found.places[k] = false
  if why then note_broken(self, key, call.name, why) end
end

---@class fzlua.RecordedCalls
---@field results userdata|false the encoded values; false: none
---@field places table<integer, integer|false> for each key the number of its first value; false:
---the call is not recorded
---@field digests string[] of the values
---@field session table|nil of digests

---The recorded calls with these keys. Finding a call counts as a use. A key may be false. The
---caller closes the results, because they may take much memory.
---@param keys (string|false)[]
---@param counts integer|integer[] how many results each must have
---@param call_of fun(k: integer): fzlua.Call of which the name is used, for messages, and `whole`
---@return fzlua.RecordedCalls
function Store:find_all(keys, counts, call_of)
  local results, places, digests, odd
  if keys[1] ~= nil then results, places, digests, odd = try(self, read_calls, keys, counts) end
  local found = {
    results = results or false, places = places or {}, digests = digests or {},
    session = odd and { [true] = {} }, -- to read modules and classes once for all values
  }
  for k = 1, odd and #keys or 0 do
    local n = math.type(counts) and counts or counts[k]
    if odd[k] then check_odd(self, found, k, odd[k], keys[k], n, call_of(k)) end
  end
  return found
end

---The recorded results of a call.
---@param key string
---@param call fzlua.Call
---@return fzlua.RecordedCalls|nil nil if it is not recorded
function Store:find(key, call)
  local found = self:find_all({ key }, call.n, function() return call end)
  return found.places[1] and found or nil
end

---Whether find() has seen that the results of a call cannot be read.
---@param key string
---@return boolean
function Store:is_broken(key) return self._broken[key] == true end

-- A table from the name of a function to its failure: the key of the call that failed in this run,
-- or true if that call is not known. A failure with a key is removed when the call with this key
-- succeeds. Any other failure is removed when any call of the function succeeds.
local function failures_of(self)
  if not self._failures then
    self._failures = {}
    for _, row in ipairs(self._db:run "SELECT name FROM failures") do
      self._failures[row[1]] = true
    end
  end
  return self._failures
end

-- Write a result. If it is there, another run has recorded the same call in the meantime, or a file
-- in it has changed; or else its call was not found because the file is damaged.
local function write_result(self, call, i, ...)
  local db = self._db
  local ok, e = pcall(db.run, db, "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?)", call.key, i, ...)
  if ok then return end
  if not (Error.is(e) and e.code == CONSTRAINT) then error(e, 0) end
  if #db:run("SELECT 1 FROM calls WHERE key = ?", call.key) == 0 then
    warn_lost(self, call.name, "was lost and is computed again")
  end
  db:run("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?)", call.key, i, ...)
end

local function write_call(self, call, values, digests)
  local packed, raw, size = {}, {}, ROW
  for i, bytes in ipairs(values) do
    packed[i], raw[i] = compress(self, bytes)
    size = size + #packed[i]
  end
  if size > self.limit then
    log.warn("the result of %s is not recorded: it is larger than the limit of the cache",
      call.name)
    return
  end
  begin(self)
  self._total = total(self)
  if self._broken[call.key] then remove(self, call.key) end
  self._broken[call.key] = nil
  if self._total + size > self.limit then
    write_uses(self)
    shrink(self, self.limit - self.limit // 10 - size)
  end
  -- Write the call last. If Ctrl-C comes before that, the results are not found without their call,
  -- and a later run replaces them.
  for i, bytes in ipairs(packed) do
    local place = call.key .. digests[i] .. ("<i8i8"):pack(i, raw[i])
    local plain = core.is_plain(values[i]) and "p" or "" -- see row_state() in lresults.c
    local sum = core.hash(core.hash(bytes) .. place .. plain)
    write_result(self, call, i, digests[i], sum, raw[i], bytes)
  end
  self._db:run([[INSERT OR REPLACE INTO calls VALUES (?, CAST(? AS TEXT), ?, CAST(? AS TEXT), ?,
      CAST(? AS TEXT), ?, ?, ?, ?, ?)]],
    call.key, call.name, call.func, call.version, call.seed, table.concat(call.names, "\n"),
    table.concat(call.inputs), call.files, tick_of(self), core.wall(), size)
  local failed = failures_of(self)[call.name]
  if failed and (failed == true or failed == call.key) then
    self._db:run("DELETE FROM failures WHERE name = CAST(? AS TEXT)", call.name)
    self._failures[call.name] = nil
  end
  self._total, self._has_recorded = self._total + size, true
end

---@class fzlua.Call
---@field key string
---@field name string of the stage and the outputs
---@field func string digest of the function
---@field version string|nil
---@field seed integer|nil
---@field n integer results
---@field names string[] of the inputs
---@field inputs string[] their digests
---@field files boolean whether its values name files
---@field whole boolean|nil whether the results of the call are one value

---Record the results of a call. flush() writes them to the file.
---@param call fzlua.Call
---@param values string[] encoded
---@param digests string[]
function Store:add(call, values, digests)
  if not self.read_only then try(self, write_call, call, values, digests) end
end

---Encode values, and record them together as the only result of a call.
---@param base fzlua.Call what the call has in common with others
---@param key string
---@param ... any
function Store:add_values(base, key, ...)
  if self.read_only then return end
  local before = file.seen
  self._session = self._session or { [true] = {} }
  local ok, digest = pcall(core.digest_in, self._session, ...)
  if not ok then
    if Error.is(digest, "interrupted") then error(digest, 0) end
    return Store.warn(base.name, text_of(digest))
  end
  local bytes = core.encode(...)
  if Store.has_functions(bytes) then return Store.warn(base.name, Store.FUNCTIONS) end
  self:add({
    key = key, name = base.name, func = base.func, version = base.version, seed = base.seed,
    names = base.names, inputs = base.inputs, files = file.seen ~= before,
  }, { bytes }, { digest })
end

local function write_failure(self, name, key, message)
  begin(self)
  failures_of(self)[name] = key or true
  self._db:run("INSERT OR REPLACE INTO failures VALUES (CAST(? AS TEXT), ?, ?, CAST(? AS TEXT))",
    name, key, core.wall(), message)
end

---Note that a function has failed.
---@param name string
---@param key string|nil of the call
---@param message string
function Store:fail(name, key, message)
  if not self.read_only then try(self, write_failure, name, key, message) end
end

local function read_failure(self, name)
  local row = self._db:run("SELECT message, key FROM failures WHERE name = CAST(? AS TEXT)",
    name)[1]
  if row then return row[1], row[2] end
end

---The message of the last failure of a function, if it has not succeeded since.
---@param name string
---@return string|nil message, string|nil key of the call that failed
function Store:failure(name) return try(self, read_failure, name) end

local function split_digests(bytes)
  local list = {}
  for i = 1, #bytes, 16 do list[#list + 1] = bytes:sub(i, i + 15) end
  return list
end

local function read_last(self, name)
  local row = self._db:run([[SELECT key, func, version, seed, names, inputs FROM calls
    WHERE name = CAST(? AS TEXT) ORDER BY tick DESC, made DESC LIMIT 1]], name)[1]
  if not row then return nil end
  local names = {}
  for each in row[5]:gmatch "[^\n]+" do names[#names + 1] = each end
  return {
    key = row[1], func = row[2], version = row[3], seed = row[4], names = names,
    inputs = split_digests(row[6]),
  }
end

---The recorded call of a function whose results were used last.
---@param name string
---@return fzlua.Call|nil
function Store:last(name) return try(self, read_last, name) end

---Rows to print: name, number of calls, bytes, the time of the last call, and the failure.
---@return table[]
function Store:list()
  return self._db:run [[SELECT name, sum(n), sum(size), max(made), max(message) FROM (
      SELECT name, count(*) AS n, sum(size) AS size, max(made) AS made, NULL AS message
        FROM calls GROUP BY name
      UNION ALL SELECT name, 0, 0, made, message FROM failures)
    GROUP BY name ORDER BY name]]
end

---The calls of the functions with this name. The name may be given with or without the stage.
---@param name string
---@return table[] rows of key, name, made, size, version, names, inputs
function Store:calls(name)
  return self._db:run([[SELECT key, name, made, size, version, names, inputs FROM calls
    WHERE name = CAST(?1 AS TEXT) OR substr(name, -length(CAST(?1 AS TEXT)) - 1)
      = '.' || CAST(?1 AS TEXT) ORDER BY tick DESC]], name)
end

---The failures of the functions with this name. The name may be given with or without the stage.
---@param name string
---@return table[] rows of name, message, made
function Store:failures(name)
  return self._db:run([[SELECT name, message, made FROM failures
    WHERE name = CAST(?1 AS TEXT) OR substr(name, -length(CAST(?1 AS TEXT)) - 1)
      = '.' || CAST(?1 AS TEXT) ORDER BY name]], name)
end

---Remove the least recently used calls until the other calls take at most `size` bytes. Returns
---the space to the filesystem.
---@param size integer
---@return integer removed calls
function Store:collect(size)
  self._db:run "BEGIN IMMEDIATE"
  local removed = shrink(self, size)
  self._db:run "DELETE FROM results WHERE key NOT IN (SELECT key FROM calls)"
  self._db:run "COMMIT"
  self._db:run "PRAGMA incremental_vacuum"
  self._db:run "PRAGMA wal_checkpoint(TRUNCATE)"
  return removed
end

---@return integer bytes of all results
function Store:size() return total(self) end

function Store:clear()
  local removed = self:collect(-1)
  self._db:run "DELETE FROM failures"
  return removed
end

function Store:close()
  if self._db then
    if self._used[1] then try(self, write_uses) end
    try(self, flush)
    if self._db then self._db:close() end
    if self._has_recorded and core.file_id(self._file) ~= self._id then
      log.warn("the cache %s was removed or replaced: what this run has recorded in it is lost",
        self.path)
    end
    if self._nlost > 0 then
      log.warn("the cache %s: further results that could not be read: %d", self.path, self._nlost)
    end
    if self._crowded > 0 then
      log.warn("the cache %s is too small for this run: %d of its results were removed again; "
        .. "the limit FZLUA_CACHE_SIZE is %d bytes", self.path, self._crowded, self.limit)
    end
  end
  self._db = nil
end

Store.__close = Store.close

return Store
