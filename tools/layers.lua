-- layers.lua - checks that no file includes or requires one of a higher layer.
--
--   lua5.4 tools/layers.lua [ROOT]
--
-- The tables below hold the order of the source files. A file of src/ may include files of lower
-- layers, and of its own layer those further left. Only layers with `lua` may include Lua's
-- headers. A .c file includes its own header first, then others in order. Each header compiles
-- alone. A module of lua/ may require modules further left. CC and LAYER_CFLAGS in the environment
-- are the compiler and its flags. Each finding is a line "file:line: what (what to do)".

local ROOT = (arg[1] or "."):gsub("/$", "")
local CC = os.getenv "CC" or "cc"
local CFLAGS = os.getenv "LAYER_CFLAGS" or ""

-- The layers from the lowest to the highest, each with its files in the same order. Files in one
-- string include each other in a circle.
local C_LAYERS = {
  {dir = "base/", "container", "list", "seed", "vec", "buf", "clock", "err", "hash"},
  {dir = "os/", "process", "slab", "alloc", "fd", "fd_private", "pollfd", "term", "footer", "cwd",
    "cgroup", "cpus", "memory", "usage", "jobserver", "lines", "blocks", "spin", "loop", "stdio"},
  {dir = "proc/", "proctree", "children", "death", "spawn",
    "proc proc_state", "proc_child", "proc_late", "proc_spawn", "start"},
  {dir = "cache/", "library", "sqlite", "zstd"},
  {dir = "shared/", "extent", "memfd", "arena arena_state", "arena_buf", "arena_mapping", "ref",
    "eventcount heap heap_state", "lock", "waiter", "barrier", "condition", "endpoint", "event",
    "heap_blocks", "heap_members", "heap_objects", "heap_reclaim", "idle", "unfinished", "queue",
    "queue_buf", "pipe", "semaphore"},
  {dir = "wire/", "blob", "claim", "wire", "account", "mailbox", "meter", "slot_line",
    "child_items child_port", "child_direct", "child_stream", "child_spawned"},
  {dir = "node/", "allow", "node_jobs", "node_main", "nats_url", "nodes", "nats_nodes",
    "ssh_nodes"},
  {dir = "worker/", "engine change", "program_state", "program", "program_supervisor",
    "worker_output", "worker_slice", "link", "link_fork", "link_stream",
    "handover worker worker_spawn worker_state", "worker_jobs", "worker_unwanted",
    "worker_replies", "worker_timeout", "worker_death", "worker_rest"},
  -- The gateway is a program beside the command: nothing else includes these.
  {dir = "gateway/", "packet", "strings", "server_name", "refusal", "bus", "gateway",
    "lease node_slots", "beat", "connection", "node_process", "relay", "listener",
    "serve", "submit", "main"},
  {dir = "trace/", "job_event", "trace trace_format", "trace_names", "event_log"},
  {dir = "sched/", "slots_state", "slots", "slots_tokens", "slots_env",
    "pool pool_state", "pool_nodes", "pool_start", "dispatch", "graph", "limits", "retry",
    "batch batch_state", "batch_chunk", "batch_producer", "batch_results", "batch_pool",
    "run run_lookup run_map run_state run_step", "run_flow", "run_producer", "run_undecided",
    "stream"},
  {dir = "report/", "page_text", "page_sums", "page_picture", "page_spans", "page_times", "page"},
  {dir = "value/", lua = true, "dump_format", "bytecode", "upvalue", "lstate", "luserdata",
    "refmap", "byname", "handle", "lerror", "allowed", "rawarray", "registered", "contents",
    "cells cells_state", "garbage", "cells_note", "cells_value", "ltext", "ltraceback"},
  {dir = "codec/", lua = true, "format", "scalar", "path", "encode_writer", "encode_string",
    "encode", "encode_table", "warning", "codec", "decode", "decode_object", "encode_class",
    "encode_object", "items", "lists", "plain", "lcodec"},
  {dir = "digest/", lua = true,
    "digest_state", "digest", "digest_table", "digest_function", "digest_module",
    "digest_settings", "digest_apart"},
  {dir = "child/", lua = true, "random", "exit", "forked", "call call_state", "call_chunk",
    "port_io", "process_main", "worker_main",
    "spawned_main"},
  {dir = "bind/", lua = true, "lforks", "lhook", "lwork", "lsink linterrupt llimit lloop ltask",
    "llimited", "open",
    "lblocks", "ldatabase", "ldescriptor", "lmachine", "lrecords", "lterm"},
  {dir = "bind/shared/", lua = true, "lhandle lheld lshared", "lguard", "lsuspended", "lwait",
    "llock",
    "lnumber", "larray", "lbarrier", "lchannel", "lcondition", "levent", "lmember",
    "lpipe", "lqueue", "lsemaphore", "lvalue"},
  {dir = "bind/jobs/", lua = true, "lblob", "lresults", "lfailure", "lfuncs", "llimits",
    "lslots", "ltrace", "lprogress", "lsetup", "lnodes", "lpool", "llocal", "lwindow",
    "lprocess", "lprogram"},
  {dir = "bind/batch/", lua = true, "lbatch_state", "lbatch", "lbatch_make", "lbatch_encode",
    "lbatch_results", "limap", "lcall"},
  {dir = "bind/run/", lua = true, "lgraph", "lpage", "lflow", "lmap", "llookup", "lrun",
    "lstream"},
  {dir = "api/", lua = true, "fzlua", "modules", "use", "call", "chain", "host",
    "interrupt", "limit", "open", "step"},
  {dir = "cli/", lua = true, "output", "print", "make", "interrupt", "state", "edit_rows",
    "edit_tty", "edit_state", "edit_keys", "edit", "files", "suspend", "restrict",
    "worker_command", "join", "main"},
}
-- The main files of programs are the only .c files that need no header.
local PROGRAMS = {["src/cli/main.c"] = true, ["src/gateway/main.c"] = true}
-- Files whose own header has another name. A file NOUN_PART may have that of NOUN, and all bindings
-- share one.
local HEADERS = {
  ["src/api/chain.c"] = "src/api/fzlua.h", ["src/api/host.c"] = "src/api/fzlua.h",
  ["src/api/interrupt.c"] = "src/api/fzlua.h", ["src/api/limit.c"] = "src/api/fzlua.h",
  ["src/api/open.c"] = "src/api/fzlua.h", ["src/api/step.c"] = "src/api/fzlua.h",
  ["src/codec/lcodec.c"] = "src/codec/codec.h", ["src/node/ssh_nodes.c"] = "src/node/nodes.h",
}
local BINDINGS = "src/bind/open.h"

local LUA_LAYERS = {
  {"error", "origin", "defaults", "engine_url", "made", "identity", "nearest", "check", "log",
    "json"},
  {"timers", "scheduler", "deadlock", "waiters", "wait", "turns", "callback", "bar", "progress",
    "page_body", "page_script", "page_style", "worker_times", "run_data", "run_report",
    "simulation", "machine_load", "run_calls", "run_advice",
    "trace", "future", "async_result", "collector", "task", "group", "descriptor", "batch_events",
    "file", "cache_file", "store", "item_cache", "lists", "mapping", "progress_loop",
    "source", "window",
    "call_keys", "call_cache"},
  {"map", "imap", "folding", "pool", "fold", "chunks", "process", "program_io", "exec"},
  {"manager_client", "proxy", "manager_server", "manager"},
  {"tables", "draw"},
  {"registry", "stage_pools", "plan", "changes", "stage_lines", "invocation", "stream", "pipeline"},
  {"stage chain", "dag"}, -- stage >> stage makes a chain, and a chain consists of stages
  {"fzlua", "host", "unlimited"},
  {"reference", "manual"}, -- the text of doc/reference.md as a module
  {"literal", "style", "picture", "value", "typed", "history", "prompt", "complete", "commands"},
  {"lua_options", "options", "messages", "command_line", "help", "script", "inputs", "outputs",
    "dry_start", "dry_run", "cache_command", "returned",
    "bytecode", "findings", "global_check", "script_check",
    "join", "nodes", "digests", "record_source", "record_sums", "record_worker", "records",
    "repl", "cli"},
}

local LUA_HEADERS = {["lua.h"] = true, ["lauxlib.h"] = true, ["lualib.h"] = true}

local findings = 0

local function report(path, line, message, ...)
  findings = findings + 1
  print(("%s:%d: %s"):format(path, line, message:format(...)))
end

-- The sorted paths of files below ROOT/dir with one of the suffixes, without ROOT.
local function files(dir, ...)
  local found = {}
  local list <close> = assert(io.popen(("find '%s/%s' -type f | LC_ALL=C sort"):format(ROOT, dir)))
  for path in list:lines() do
    for _, suffix in ipairs{...} do
      if path:sub(-#suffix) == suffix then found[#found + 1] = path:sub(#ROOT + 2) end
    end
  end
  return found
end

local function exists(path)
  local file = io.open(ROOT .. "/" .. path)
  if file then file:close() end
  return file ~= nil
end

-- The file name of a path without its suffix, as the tables have it.
local function noun_of(path) return path:match("([^/]+)%.%w+$") end

-- The height of src/DIR/NOUN.x, and its layer. Files in one string have the same height.
local function place(path)
  local dir, noun = path:match("^src/(.-)[^/]+$"), noun_of(path)
  local base = 0
  for _, layer in ipairs(C_LAYERS) do
    for i, names in ipairs(layer.dir == dir and layer or {}) do
      for name in names:gmatch("%S+") do
        if name == noun then return base + i, layer end
      end
    end
    base = base + #layer
  end
end

-- The path of `#include "target"` in the file at `path`: beside that file, or below src/.
local function resolve(path, target)
  local beside = path:match("^(.*/)") .. target
  return exists(beside) and beside or "src/" .. target
end

-- A path of src/ without its suffix -> the set of those that its files include.
local includes = {}

local function note_include(path, included)
  local from, to = path:gsub("%.%w+$", ""), included:gsub("%.%w+$", "")
  includes[from] = includes[from] or {}
  includes[from][to] = true
end

-- Whether `from` includes `to`, perhaps through other files.
local function reaches(from, to, seen)
  seen[from] = true
  for included in pairs(includes[from] or {}) do
    if included == to or not seen[included] and reaches(included, to, seen) then return true end
  end
  return false
end

-- Report a line of a table above that names no file.
local function check_exists(path, ...)
  for _, suffix in ipairs{...} do
    if exists(path .. suffix) then return end
  end
  report("tools/layers.lua", 1, "%s does not exist (remove it from the table)", path)
end

-- Check that the tables name files that exist. A string with files that do not form a circle would
-- hide their order.
local function check_tables()
  for path in pairs(PROGRAMS) do check_exists(path, "") end
  for path in pairs(HEADERS) do check_exists(path, "") end
  for _, layer in ipairs(C_LAYERS) do
    for _, names in ipairs(layer) do
      local first = names:match("%S+")
      for name in names:gmatch("%S+") do
        local a, b = "src/" .. layer.dir .. first, "src/" .. layer.dir .. name
        check_exists(b, ".c", ".h")
        if name ~= first and not (reaches(a, b, {}) and reaches(b, a, {})) then
          report("tools/layers.lua", 1, "%s and %s share a string but do not include each other "
            .. "(list them one after the other)", a, b)
        end
      end
    end
  end
end

local function check_include(path, line, target)
  local height = place(path)
  local included = resolve(path, target)
  local other = place(included)
  note_include(path, included)
  if not exists(included) then
    report(path, line, '"%s" is not below src/ (write the path from src/)', target)
  elseif not other then
    report(path, line, "%s has no place in the table of tools/layers.lua (give it one)", included)
  elseif other > height then
    report(path, line, "includes %s, which is above it or to its right (move what both need down, "
      .. "or pass it in as a callback)", included)
  end
end

-- Whether a header is that of the .c file at `path`.
local function is_header_of(header, path)
  local noun = noun_of(path)
  if header == BINDINGS then return path:match("^src/bind/") ~= nil end
  return HEADERS[path] == header
    or header:match("^.*/") == path:match("^.*/")
      and noun_of(header):match("^[^_]+") == noun:match("^[^_]+")
end

local function check_source(path)
  local height, layer = place(path)
  if not height then
    return report(path, 1, "has no place in the table of tools/layers.lua (give it one)")
  end
  local own = path:gsub("%.c$", ".h")
  local number, first, before = 0, nil, nil -- `before`: what the last line includes
  for text in io.lines(ROOT .. "/" .. path) do
    number = number + 1
    local mark, target = text:match('^%s*#%s*include%s*([<"])([^>"]+)')
    if before and mark == '"' and target < before then
      report(path, number, '"%s" stands after "%s" (sort the includes)', target, before)
    end
    before = mark == '"' and target
    if mark == '"' then
      first = first or {number, resolve(path, target)}
      check_include(path, number, target)
    elseif mark == "<" then
      first = first or {number, target}
      if exists("src/" .. target) then
        report(path, number, '<%s> is a file of src/ (include it as "%s")', target, target)
      end
      if LUA_HEADERS[target] and not layer.lua then
        report(path, number, "<%s> in a folder without `lua` (take a callback)", target)
      end
    end
  end
  if path:match("%.c$") and not PROGRAMS[path]
      and not (first and (first[2] == own or is_header_of(first[2], path))) then
    report(path, first and first[1] or 1, "does not include %s first, or a header of the same noun "
      .. "(so that a header that lacks an include is found)", own)
  end
end

local function check_header(path)
  local pipe = assert(io.popen(("%s -std=c11 -Wall -Werror -fsyntax-only -I'%s/src' %s -x c "
    .. "'%s/%s' 2>&1"):format(CC, ROOT, CFLAGS, ROOT, path)))
  local said = pipe:read("a")
  if not pipe:close() then
    report(path, 1, "does not compile alone (include what it needs):\n%s", said)
  end
end

local function lua_heights()
  local heights, n = {}, 0
  for _, layer in ipairs(LUA_LAYERS) do
    for _, names in ipairs(layer) do
      n = n + 1
      for noun in names:gmatch("%S+") do heights[noun] = n end
    end
  end
  return heights
end

-- A require inside a function counts, too, because it would only hide a circle.
local function check_module(path, heights)
  local noun = noun_of(path)
  local height = heights[noun]
  if not height then
    return report(path, 1, "has no place in the table of tools/layers.lua (give it one)")
  end
  local number = 0
  for text in io.lines(ROOT .. "/" .. path) do
    number = number + 1
    local code = text:gsub("%-%-.*", "")
    for quoted, rest in code:gmatch("require%s*%(?%s*[\"']([%w_.]+)[\"']%s*(%.?%.?)") do
      local required = quoted == "fzlua" and "fzlua" or quoted:match("^fzlua%.(.*)$")
      if rest == ".." then
        if noun ~= "fzlua" then
          report(path, number, "requires a module by a made-up name (write the name out)")
        end
      elseif required and required ~= "core" then
        if not heights[required] then
          report(path, number, "requires fzlua.%s, which has no place in the table", required)
        elseif heights[required] > height then
          report(path, number, "requires %s, which is above it or to its right (move what both "
            .. "need down, or pass it in)", quoted)
        end
      end
    end
  end
end

-- Modules may also be texts: the parts of a page, and doc/reference.md.
local function check_modules_exist(heights, modules)
  local known = {reference = true}
  for _, path in ipairs(modules) do known[noun_of(path)] = true end
  for _, path in ipairs(files("lua", ".html", ".js", ".css")) do known[noun_of(path)] = true end
  for noun in pairs(heights) do
    if not known[noun] then
      report("tools/layers.lua", 1, "no module is called %s (remove it from the table)", noun)
    end
  end
end

local sources = files("src", ".c", ".h")
for _, path in ipairs(sources) do check_source(path) end
check_tables()
for _, path in ipairs(sources) do
  if path:match("%.h$") then check_header(path) end
end
local heights = lua_heights()
local modules = exists("lua/fzlua.lua") and files("lua", ".lua") or {}
for _, path in ipairs(modules) do
  if not path:match("^lua/meta/") then check_module(path, heights) end -- they are never loaded
end
check_modules_exist(heights, modules)

if findings > 0 then
  print(("layers: %d findings"):format(findings))
  os.exit(1)
end
print(("layers: %d files of src/ and %d of lua/ keep their order"):format(#sources, #modules))
