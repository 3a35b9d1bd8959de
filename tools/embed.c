/*
 * tools/embed.c - compiles Lua files into the modules of one C file.
 *
 * lua/pipeline/stage.lua becomes { "fzlua.stage", bytes, length } with the
 * chunk name "@fzlua/stage.lua", so that its line numbers stay valid.
 * lua/fzlua.lua is "fzlua". A file of another kind, such as doc/reference.md,
 * becomes a module whose value is the text.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

static size_t column;

static int
write_bytes(lua_State *L, const void *bytes, size_t len, void *out)
{
	const unsigned char *p = bytes;

	(void)L;
	for (size_t i = 0; i < len; i++) {
		if (fprintf(out, "%u,", p[i]) < 0)
			return 1;
		if (++column % 20 == 0)
			fputc('\n', out);
	}
	return 0;
}

/* Push "stage" for "lua/pipeline/stage.lua". */
static const char *
push_noun(lua_State *L, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *noun = slash != NULL ? slash + 1 : path;
	const char *dot = strrchr(noun, '.');

	return lua_pushlstring(
	    L, noun, dot != NULL ? (size_t)(dot - noun) : strlen(noun));
}

static void
embed_file(lua_State *L, const char *path, int number)
{
	const char *noun = push_noun(L, path);
	const char *chunk = lua_pushfstring(L, "@fzlua/%s.lua", noun);
	bool is_text = strstr(path, ".lua") == NULL;
	FILE *in = fopen(path, "r");
	luaL_Buffer b;
	size_t n, len;
	const char *source;

	if (in == NULL)
		luaL_error(L, "cannot open %s", path);
	luaL_buffinit(L, &b);
	if (is_text)
		luaL_addstring(&b, "return [====[\n");
	do {
		n = fread(luaL_prepbuffer(&b), 1, LUAL_BUFFERSIZE, in);
		luaL_addsize(&b, n);
	} while (n == LUAL_BUFFERSIZE);
	fclose(in);
	if (is_text)
		luaL_addstring(&b, "]====]");
	luaL_pushresult(&b);
	source = lua_tolstring(L, -1, &len);
	if (luaL_loadbufferx(L, source, len, chunk, "t") != LUA_OK)
		lua_error(L);
	printf("static const unsigned char module_%d[] = {\n", number);
	column = 0;
	if (lua_dump(L, write_bytes, stdout, 0) != 0)
		luaL_error(L, "cannot write %s", path);
	printf("};\n");
	lua_settop(L, 0);
}

static int
embed(lua_State *L)
{
	char **argv = lua_touserdata(L, 1);

	lua_settop(L, 0);
	printf("#include \"api/modules.h\"\n");
	for (int i = 1; argv[i] != NULL; i++)
		embed_file(L, argv[i], i);
	printf("const struct fz_module fz_modules[] = {\n");
	for (int i = 1; argv[i] != NULL; i++) {
		const char *noun = push_noun(L, argv[i]);

		printf("\t{ \"%s%s\", module_%d, sizeof(module_%d) },\n",
		    strcmp(noun, "fzlua") == 0 ? "" : "fzlua.", noun, i, i);
		lua_pop(L, 1);
	}
	printf("\t{ NULL, NULL, 0 },\n};\n");
	return 0;
}

int
main(int argc, char **argv)
{
	lua_State *L = luaL_newstate();

	(void)argc;
	if (L == NULL)
		return EXIT_FAILURE;
	lua_pushcfunction(L, embed);
	lua_pushlightuserdata(L, argv);
	if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
		fprintf(stderr, "embed: %s\n", lua_tostring(L, -1));
		return EXIT_FAILURE;
	}
	lua_close(L);
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
