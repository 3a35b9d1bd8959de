-- version.lua - checks that all files name the version of the Makefile.
--
--   lua5.4 tools/version.lua VERSION
--
-- Each finding is a line "file: what".

local VERSION <const> = arg[1]
local major, minor, patch = VERSION:match "^(%d+)%.(%d+)%.(%d+)$"
local ROCKSPEC <const> = ("fzlua-%s-1.rockspec"):format(VERSION)

-- File, pattern whose first capture is its version, and the version that it must have.
local PLACES <const> = {
  { "src/api/fzlua.h", "FZLUA_VERSION_NUM (%d+)",
    tostring(major * 10000 + minor * 100 + patch) },
  { "src/api/fzlua.h", '/%* "([%d.]+)" %*/', VERSION },
  { "debian/changelog", "^fzlua %(([^)]+)%)", VERSION },
  { ROCKSPEC, '\nversion = "([^"]+)"', VERSION .. "-1" },
  { ROCKSPEC, "fzlua%-([%d.]+)%.tar%.gz", VERSION },
}

local findings = 0

for _, place in ipairs(PLACES) do
  local path, pattern, expected = table.unpack(place)
  local file = io.open(path)
  local found = file and file:read("a"):match(pattern)
  if found ~= expected then
    findings = findings + 1
    print(("%s: %s (the Makefile has VERSION %s)"):format(path,
      found and "the version is " .. found or file and "has no version" or "no such file",
      VERSION))
  end
end
if findings > 0 then os.exit(1) end
