-- The module for Lua 5.4 alone. `make install` installs the command and the library for C, too.
rockspec_format = "3.0"
package = "fzlua"
version = "0.1.0-1"
source = {
  url = "file://fzlua-0.1.0.tar.gz", -- from `make dist`
}
description = {
  summary = "Parallel pipelines in Lua",
  detailed = [[
Runs functions in worker processes that are forked from the script: chains of stages, parallel maps,
pools, processes, queues, locks and tasks. Linux only.]],
  license = "MIT",
}
supported_platforms = { "linux" }
dependencies = { "lua ~> 5.4" }
external_dependencies = {
  MD = { header = "sha2.h" },
  SQLITE3 = { header = "sqlite3.h" },
  UTF8PROC = { header = "utf8proc.h" },
  XXHASH = { header = "xxhash.h" },
  ZSTD = { header = "zstd.h" },
}
build = {
  type = "make",
  build_target = "module",
  install_target = "install-module",
  variables = {
    LUA_CFLAGS = "-I$(LUA_INCDIR)",
    LUA_CMOD = "$(LIBDIR)",
  },
}
