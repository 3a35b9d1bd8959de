-- The examples print the same under lua5.4 with the installed module as under the command.
-- `make test-install` sets LUA_CPATH and PATH to the installed files.

local t = ...

t.fzlua = os.getenv "PWD" .. "/tests/package/plain.lua"
return assert(loadfile "tests/cli/test_examples.lua")(t, {2})
