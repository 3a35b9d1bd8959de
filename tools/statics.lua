-- statics.lua - checks that the library has no writable object but the ones listed here.
--
--   lua5.4 tools/statics.lua LIBRARY [OBJDUMP]
--
-- Several instances of the library may run in one process, each in a thread of its own. So what
-- belongs to one instance is in its engine or its Lua state, and what belongs to the process is in
-- fz_process (src/os/process.h). Each finding is a line "file: what (what to do)".

local LIBRARY, OBJDUMP = arg[1], arg[2] or "objdump"

-- Each object, with the reason why several threads may use it.
local ALLOWED = {
  process = {
    fz_process = "the state of the process: process.h says how each field is safe",
    own_fork = "per thread",
  },

  -- Computed once, the same in each thread.
  spin = {known = "atomic; the number of processors"},
  fd = {refused = "atomic; whether the kernel lacks a flag"},
  fd_private = {helper_stack = "of a child, before it has threads", left = "likewise"},
  rawarray = {learned = "written once, see progress", progress = "atomic"},
  handle = {known = "atomic; a constant"},

  use = {places = "atomic"},

  -- Each thread has a copy of its own.
  cwd = {
    fz_cwd_moved = "per thread",
    innermost = "per thread",
    reported = "the command sets it before it starts a thread",
  },

  -- Objects of the command, which runs one Lua state in one thread.
  clock = {skipped_ns = "the command sets it before it forks; the number there is atomic"},
  alloc = {
    kept = "allocator of the command", kept_bytes = "likewise", known_end = "likewise",
    nkept = "likewise", rc = "likewise", turnover = "likewise",
  },
  slab = {
    classes = "allocator of the command", fz_slab_lists = "likewise", generation = "likewise",
    nregions = "likewise", nidle = "likewise", nused = "likewise", open_regions = "likewise",
    rc = "likewise",
  },
}

-- Sections of writable objects. The linker makes .data.rel.ro read-only.
local function is_writable(section)
  return section:find "^%.t?bss" or section:find "^%.tdata" or section == "*COM*"
    or section:find "^%.data" and not section:find "^%.data%.rel%.ro"
end

-- In an archive, "clock.o:     file format ..." comes before the symbols of a file, such as
-- "0000000000000008 l     O .bss<tab>0000000000000008 skipped_ns". A section has the flag d. A
-- static in a function has a number, "rc.0".
local findings, nfiles, seen, noun = 0, 0, {}, nil
local list <close> = assert(io.popen(("LC_ALL=C '%s' -t '%s'"):format(OBJDUMP, LIBRARY)))
for line in list:lines() do
  local file = line:match "^(%S+)%.o:%s+file format"
  local flags, section, symbol = line:match "^%x+ (.......) (%S+)\t%x+ (.*)$"
  if file then
    noun, nfiles = file, nfiles + 1
  elseif section and is_writable(section) and not flags:find "[dF]" then
    local name = symbol:gsub("^%.hidden ", ""):gsub("%.%d+$", "")
    seen[noun .. "." .. name] = true
    if not (ALLOWED[noun] or {})[name] then
      findings = findings + 1
      print(("%s.c: '%s' is writable and not in the table of tools/statics.lua (make it const, a "
        .. "field of struct fz_engine, or of struct fz_process)"):format(noun, name))
    end
  end
end

for file, names in pairs(ALLOWED) do
  for name in pairs(names) do
    if not seen[file .. "." .. name] then
      findings = findings + 1
      print(("%s.c: '%s' is in the table of tools/statics.lua and does not exist (remove it "
        .. "there)"):format(file, name))
    end
  end
end
if findings > 0 or nfiles == 0 then
  print(("statics: %d findings in %d files"):format(findings, nfiles))
  os.exit(1)
end
print(("statics: no other writable object in %d files"):format(nfiles))
