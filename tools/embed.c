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

#include "value/dump_format.h"

/* Bytes of a dump before its function: the head, and the number of upvalues. */
enum { HEAD_BYTES = 32, INSTRUCTION_BYTES = 4 };

static size_t column;

static void
put_byte(unsigned char byte)
{
	printf("%u,", byte);
	if (++column % 20 == 0)
		putchar('\n');
}

/* The following functions copy a part of a dump and return its end. */
static const unsigned char *
copy(const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		put_byte(p[i]);
	return p + n;
}

/* A number is in groups of 7 bits; the last byte has its highest bit set. */
static const unsigned char *
read_size(const unsigned char *p, size_t *n)
{
	*n = 0;
	do
		*n = *n << 7 | (*p & 0x7f);
	while ((*p++ & 0x80) == 0);
	return p;
}

static const unsigned char *
copy_size(const unsigned char *p, size_t *n)
{
	return copy(p, (size_t)(read_size(p, n) - p));
}

static const unsigned char *
skip_string(const unsigned char *p)
{
	size_t size;

	p = read_size(p, &size);
	return size != 0 ? p + size - 1 : p;
}

static const unsigned char *
copy_string(const unsigned char *p)
{
	return copy(p, (size_t)(skip_string(p) - p));
}

static const unsigned char *
copy_constant(const unsigned char *p)
{
	unsigned char type = *p;

	p = copy(p, 1);
	if (type == FZ_DUMP_INTEGER)
		return copy(p, sizeof(lua_Integer));
	if (type == FZ_DUMP_NUMBER)
		return copy(p, sizeof(lua_Number));
	return type == FZ_DUMP_SHORT || type == FZ_DUMP_LONG ? copy_string(p)
							     : p;
}

/* Copy the lines and the names of upvalues, but not those of locals. */
static const unsigned char *
copy_debug(const unsigned char *p)
{
	size_t n;

	p = copy_size(p, &n);
	p = copy(p, n);
	p = copy_size(p, &n);
	for (n *= 2; n > 0; n--)
		p = copy(p, (size_t)(read_size(p, &(size_t){ 0 }) - p));
	p = read_size(p, &n);
	for (; n > 0; n--) {
		p = skip_string(p);
		p = read_size(p, &(size_t){ 0 });
		p = read_size(p, &(size_t){ 0 });
	}
	put_byte(0x80); /* no locals */
	p = copy_size(p, &n);
	for (; n > 0; n--)
		p = copy_string(p);
	return p;
}

static const unsigned char *
copy_function(const unsigned char *p)
{
	size_t n;

	p = copy_string(p); /* the source */
	p = copy_size(p, &n);
	p = copy_size(p, &n);
	/* number of parameters, whether it is variadic, size of the stack */
	p = copy(p, 3);
	p = copy_size(p, &n);
	p = copy(p, n * INSTRUCTION_BYTES);
	p = copy_size(p, &n);
	for (; n > 0; n--)
		p = copy_constant(p);
	p = copy_size(p, &n);
	p = copy(p, n * FZ_DUMP_UPVALUE);
	p = copy_size(p, &n);
	for (; n > 0; n--)
		p = copy_function(p);
	return copy_debug(p);
}

struct dump {
	unsigned char *bytes;
	size_t len;
};

static int
add_bytes(lua_State *L, const void *bytes, size_t len, void *to)
{
	struct dump *dump = to;
	unsigned char *p = realloc(dump->bytes, dump->len + len);

	(void)L;
	if (p == NULL)
		return 1;
	memcpy(p + dump->len, bytes, len);
	dump->bytes = p;
	dump->len += len;
	return 0;
}

/*
 * Write the function on top. Names of locals are left out: they would take a
 * tenth of the time in which the command starts.
 */
static void
write_function(lua_State *L)
{
	struct dump dump = { NULL, 0 };

	if (lua_dump(L, add_bytes, &dump, 0) != 0)
		luaL_error(L, "not enough memory");
	column = 0;
	if (copy_function(copy(dump.bytes, HEAD_BYTES)) !=
	    dump.bytes + dump.len)
		luaL_error(L, "the bytecode has another format");
	free(dump.bytes);
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
	write_function(L);
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
