-- The files that `make install` installs, and their use by other programs: pkg-config, the linker.
-- `make test-install` installs below FZLUA_STAGE.

local t = ...

local STAGE <const> = os.getenv "FZLUA_STAGE"

-- Standard output of a shell command that succeeds.
local function run(command)
  local out, err, status = t.shell("cd " .. STAGE .. " && " .. command)
  if status ~= 0 then error(("%s\nexits with %d\n%s%s"):format(command, status, out, err), 2) end
  return out
end

-- The output of a program that the compiler makes from a source and pkg-config's options.
local function build_and_run(compiler, source, options, command)
  local program = t.file ""
  run(("%s -Wall -Werror -o %s %s $(pkg-config %s --cflags --libs fzlua)"):format(compiler, program,
    source, options))
  return run(command or program)
end

local tests = {}

tests.everything_is_installed = function()
  for _, path in ipairs {
    "bin/fzlua", "include/fzlua.h", "lib/libfzlua.a", "lib/libfzlua.so", "lib/libfzlua.so.0",
    "lib/lua/5.4/fzlua.so", "lib/pkgconfig/fzlua.pc", "share/man/man1/fzlua.1",
    "share/man/man3/fzlua.3", "share/bash-completion/completions/fzlua",
    "share/zsh/site-functions/_fzlua", "share/doc/fzlua/README.md", "share/fzlua/meta/fz.lua",
  } do
    run("test -s " .. path)
  end
  t.equal(run "bin/fzlua --version | cut -d' ' -f2", run "pkg-config --modversion fzlua")
end

-- Before the test, the Makefile installs with DESTDIR into FZLUA_STAGE-dest, lists the files, and
-- uninstalls them.
tests.uninstall_leaves_nothing = function()
  t.equal(run "cat ../stage-dest/installed", run "find . ! -type d | sort")
  t.equal(run "find ../stage-dest/usr ! -type d; ls ../stage-dest/usr/share/doc", "")
end

-- The messages of the compiler about the header, without the options of pkg-config.
local function refusal(...)
  local source = t.file "#include <fzlua.h>\n"
  local _, err, status = t.shell(("cd %s && cc -x c -fsyntax-only -Iinclude %s %s"):format(STAGE,
    table.concat({ ... }, " "), source))
  t.equal(status ~= 0, true)
  return err
end

tests.without_the_headers_of_lua_the_header_says_what_to_do = function()
  t.match(refusal("-nostdinc", "-isystem $(cc -print-file-name=include)"),
    "lua.h: No such file or directory", "add what pkg-config --cflags fzlua prints")
  local dir = (t.shell "mktemp -d"):match "%S+"
  t.shell(("echo '#define LUA_VERSION_NUM 501' >%s/lua.h"):format(dir))
  t.match(refusal("-I" .. dir), "fzlua.h needs Lua 5.4, and finds the headers of an older Lua")
  t.shell("rm -r " .. dir)
end

-- The names that the public header declares.
local function declared()
  local names = {}
  for name in run "cat include/fzlua.h":gmatch "\nFZLUA_API [^;]-([%w_]+)%(" do
    names[#names + 1] = name
  end
  table.sort(names)
  return table.concat(names, "\n") .. "\n"
end

-- Programs that were built with an older version call these. A function may be added; one that is
-- removed or changed needs a new soname.
local PROMISED <const> = [[
fzlua_call
fzlua_cancel
fzlua_chain
fzlua_close
fzlua_dofile
fzlua_fd
fzlua_finish
fzlua_instance_of
fzlua_interrupt
fzlua_limit
fzlua_new
fzlua_next
fzlua_register
fzlua_set_forks
fzlua_set_log
fzlua_set_output
fzlua_spawn
fzlua_stage
fzlua_step
fzlua_version
luaopen_fzlua
]]

local EXPORTED <const> = "nm -D --defined-only %s | sed 's/.* //' | LC_ALL=C sort"

tests.libraries_export_the_public_functions_only = function()
  t.match(declared(), "luaopen_fzlua")
  t.equal(run(EXPORTED:format "lib/libfzlua.so"), declared())
  t.equal(run(EXPORTED:format "lib/lua/5.4/fzlua.so"), declared())
end

tests.no_promised_function_is_lost = function()
  local exported = "\n" .. run(EXPORTED:format "lib/libfzlua.so")
  for name in PROMISED:gmatch "%S+" do t.match(exported, "\n" .. name .. "\n") end
end

tests.the_archive_has_no_names_that_others_may_use = function()
  t.equal(run [[nm -g --defined-only lib/libfzlua.a | sed -n 's/.* [A-Z] //p' |
    grep -v '^fz_\|^fzlua_\|^luaopen_fzlua$' || :]], "")
end

tests.libraries_name_what_they_need = function()
  local shared = run "readelf -d lib/libfzlua.so"
  t.match(shared, "soname: [libfzlua.so.0]", "NODELETE", "[libutf8proc.so", "[liblua5.4.so")
  local module = run "readelf -d lib/lua/5.4/fzlua.so"
  t.match(module, "NODELETE", "[libutf8proc.so")
  assert(not module:find("[liblua", 1, true), "the module brings a Lua of its own")
end

local HELLO <const> = "$OLDPWD/examples/embed/hello.c"

tests.a_host_links_with_the_shared_library = function()
  t.equal(build_and_run("cc", HELLO, ""), "C = 42\n")
end

tests.a_host_links_with_the_options_for_static_libraries = function()
  t.equal(build_and_run("cc", HELLO, "--static"), "C = 42\n")
end

tests.a_host_links_without_any_shared_library = function()
  t.equal(build_and_run("cc -Wno-error -static", HELLO, "--static", nil), "C = 42\n")
end

tests.all_hosts_of_the_examples_compile = function()
  for source in run "ls $OLDPWD/examples/embed/*.c*":gmatch "%S+" do
    local compiler = source:find "%.c$" and "cc -pthread" or "c++ -pthread"
    build_and_run(compiler, source, "", "true")
    build_and_run(compiler .. " -static", source, "--static", "true")
  end
end

return tests
