// hello.cpp - a script and its chain from C++.
//
//   c++ hello.cpp $(pkg-config --cflags --libs fzlua) -o hello
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

#include <fzlua.h>
#include <lua.hpp>

namespace
{

// An error of the library becomes an exception with its text.
void
check(lua_State *L, int status)
{
	if (status == FZLUA_OK)
		return;
	std::string text = L != nullptr ? luaL_tolstring(L, -1, nullptr)
					: "not enough memory";
	throw std::runtime_error(text);
}

struct Close {
	void operator()(lua_State *L) const
	{
		fzlua_close(L);
	}
};
using State = std::unique_ptr<lua_State, Close>;

State
open()
{
	lua_State *L;
	int status = fzlua_new(&L, nullptr);
	State state(L);

	check(L, status);
	return state;
}

constexpr char script[] = R"(
local square, sum = fz.stage "square", fz.stage "sum"
square:map("squares", "numbers", function(x) return x * x end)
function sum.total(squares)
  local total = 0
  for _, x in ipairs(squares) do total = total + x end
  return total
end
return (square >> sum){numbers = {1, 2, 3, 4}}.total
)";

} // namespace

int
main()
{
	try {
		State state = open();
		lua_State *L = state.get();

		check(L, luaL_loadstring(L, script));
		check(L, fzlua_call(L, 0, 1));
		std::cout << "total = " << lua_tointeger(L, -1) << '\n';
	} catch (const std::exception &e) {
		std::cerr << "hello: " << e.what() << '\n';
		return 1;
	}
	return 0;
}
