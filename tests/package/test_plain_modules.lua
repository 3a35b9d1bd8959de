-- C modules of other projects beside the installed module, under lua5.4.

local t = ...

t.fzlua = os.getenv "PWD" .. "/tests/package/plain.lua"
return assert(loadfile "tests/core/test_modules.lua")(t)
