/* for MAP_ANONYMOUS, which is not in C11 */
#define _GNU_SOURCE
#include "bind/open.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/seed.h"
#include "child/random.h"
#include "value/lerror.h"
#include "value/luserdata.h"

/*
 * This object is the loop of a worker over the records of a block. Its function
 * step() appends the result for one record to the output and returns the next
 * record, so each record costs only one call of a C function.
 *
 * The object is made before the workers are forked. For each block, the number
 * of the current record is in memory that the workers share with their parent.
 * So the parent knows at which record a worker died.
 */

#define RECORDS_TYPE "fzlua.Records"

static const struct fz_luserdata_class records_class;

enum {
	OUT_KEPT = 4 << 20, /* bytes of the output buffer that are kept */
	BLOCKS_MAX = 1 << 20
};

/* User values of a Records object. */
enum { RECORDS_TEXT = 1, RECORDS_ENCODE, RECORDS_DECODE };

struct lrecords {
	const char *record; /* NULL before the first record */
	size_t len;         /* length of the record, without the separator */
	const char *next;   /* start of the next record */
	const char *end;    /* end of the block */
	lua_Integer n;      /* number of the current record in the input */
	/* number of the current record in the block; 0 before the first */
	uint32_t at;
	volatile uint32_t *position; /* copy of `at` in shared memory */
	/* places in shared memory for all blocks; NULL: closed */
	volatile uint32_t *shared;
	size_t nshared;
	uint64_t seed;
	struct fz_random random;
	struct fz_buf out; /* results of the previous records */
	char separator;
	bool encodes; /* whether all results are encoded, not only tables */
	bool decodes;
};

static struct lrecords *
check_records(lua_State *L)
{
	struct lrecords *r = luaL_checkudata(L, 1, RECORDS_TYPE);

	if (r->shared == NULL)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the records are closed");
	return r;
}

/* The place in shared memory for the block whose index is argument `arg`. */
static volatile uint32_t *
check_position(lua_State *L, const struct lrecords *r, int arg)
{
	lua_Integer i = luaL_checkinteger(L, arg);

	luaL_argcheck(
	    L, 0 <= i && (uint64_t)i < r->nshared, arg, "out of range");
	return &r->shared[i];
}

static void
put(lua_State *L, struct lrecords *r, const char *bytes, size_t len)
{
	fz_buf_put(&r->out, bytes, len);
	fz_buf_put(&r->out, &r->separator, 1);
	if (r->out.failed)
		fz_lerror_nomem(L, "the results of a block");
}

/* Append the text of the encoder for the value at 1. [-0, +0, e] */
static void
put_encoded(lua_State *L, struct lrecords *r)
{
	const char *text;
	size_t len;

	lua_getiuservalue(L, lua_upvalueindex(1), RECORDS_ENCODE);
	lua_pushvalue(L, 1);
	lua_call(L, 1, 1);
	text = luaL_checklstring(L, -1, &len);
	put(L, r, text, len);
	lua_pop(L, 1);
}

/* Append the value at 1, the result for the current record. [-0, +0, e] */
static void
put_result(lua_State *L, struct lrecords *r)
{
	int type = lua_type(L, 1);
	const char *text;
	size_t len;

	if (type == LUA_TNIL || type == LUA_TNONE)
		return;
	if (type == LUA_TBOOLEAN) {
		if (lua_toboolean(L, 1))
			put(L, r, r->record, r->len);
	} else if (type == LUA_TTABLE || r->encodes) {
		put_encoded(L, r);
	} else if (type == LUA_TSTRING || type == LUA_TNUMBER) {
		text = lua_tolstring(L, 1, &len);
		put(L, r, text, len);
	} else {
		luaL_error(L, "a %s cannot be printed", luaL_typename(L, 1));
	}
}

static void
advance(struct lrecords *r)
{
	size_t left = (size_t)(r->end - r->next);
	const char *stop = memchr(r->next, (unsigned char)r->separator, left);

	r->record = r->next;
	r->len = stop != NULL ? (size_t)(stop - r->next) : left;
	r->next = stop != NULL ? stop + 1 : r->end;
	r->n++;
	*r->position = ++r->at;
}

/* Decode the text on top, and replace it by the value. [-1, +1, e] */
static void
decode(lua_State *L)
{
	lua_getiuservalue(L, lua_upvalueindex(1), RECORDS_DECODE);
	lua_insert(L, -2);
	lua_call(L, 1, 1);
}

/*
 * step([result of the current record]) -> the next record, its number | nothing
 * at the end of the block. The Records object is the upvalue.
 */
static int
step(lua_State *L)
{
	struct lrecords *r = lua_touserdata(L, lua_upvalueindex(1));

	if (r->record != NULL)
		put_result(L, r);
	if (r->next == r->end)
		return 0;
	advance(r);
	fz_random_seed(&r->random, r->seed + (uint64_t)r->n);
	lua_pushlstring(L, r->record, r->len);
	if (r->decodes)
		decode(L);
	lua_pushinteger(L, r->n);
	return 2;
}

static int
records_stepper(lua_State *L)
{
	check_records(L);
	lua_settop(L, 1);
	lua_pushcclosure(L, step, 1);
	return 1;
}

/*
 * records:open(block, n, position): begin a block. `n` is the number of records
 * before the block. The number of the current record is stored at the index
 * `position` of the shared memory.
 */
static int
records_open(lua_State *L)
{
	struct lrecords *r = check_records(L);
	size_t len;
	const char *block = luaL_checklstring(L, 2, &len);

	r->n = luaL_checkinteger(L, 3);
	r->position = check_position(L, r, 4);
	r->at = 0;
	r->record = NULL;
	r->next = block;
	r->end = block + len;
	fz_buf_clear(&r->out);
	lua_pushvalue(L, 2);
	lua_setiuservalue(L, 1, RECORDS_TEXT);
	return 0;
}

/* records:at() -> number of the current record in the block */
static int
records_at(lua_State *L)
{
	lua_pushinteger(L, check_records(L)->at);
	return 1;
}

static int
records_has_more(lua_State *L)
{
	struct lrecords *r = check_records(L);

	lua_pushboolean(L, r->next != r->end);
	return 1;
}

/* records:again(): make step() return the current record again */
static int
records_again(lua_State *L)
{
	struct lrecords *r = check_records(L);

	luaL_argcheck(L, r->record != NULL, 1, "there is no current record");
	r->next = r->record;
	r->record = NULL;
	r->at--;
	r->n--;
	return 0;
}

/* records:take() -> the results, each with the separator. Ends the block. */
static int
records_take(lua_State *L)
{
	struct lrecords *r = check_records(L);

	lua_pushlstring(L, (const char *)r->out.data, r->out.len);
	if (r->out.cap > OUT_KEPT)
		fz_buf_fini(&r->out);
	fz_buf_clear(&r->out);
	lua_pushnil(L);
	lua_setiuservalue(L, 1, RECORDS_TEXT);
	r->record = NULL;
	r->next = r->end;
	return 1;
}

/*
 * records:position(index) -> number of the record that the worker has reached
 * in the block with this index
 */
static int
records_position(lua_State *L)
{
	struct lrecords *r = check_records(L);

	lua_pushinteger(L, *check_position(L, r, 2));
	return 1;
}

/*
 * records:clear_position(index): set the number at this index to 0, before the
 * block is sent
 */
static int
records_clear_position(lua_State *L)
{
	struct lrecords *r = check_records(L);

	*check_position(L, r, 2) = 0;
	return 0;
}

/* Free the memory only in the process that made the object. */
static int
records_close(lua_State *L)
{
	struct lrecords *r = luaL_checkudata(L, 1, RECORDS_TYPE);

	if (r->shared != NULL)
		munmap((void *)(uintptr_t)r->shared,
		    r->nshared * sizeof(*r->shared));
	r->shared = NULL;
	fz_buf_fini(&r->out);
	return 0;
}

/* Map the shared positions, which later forks inherit. [-0, +0, e] */
static void
map_positions(lua_State *L, struct lrecords *r, size_t n)
{
	struct fz_err err = { 0 };
	void *p = mmap(NULL, n * sizeof(*r->shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		fz_err_sys(&err, errno, "cannot map the numbers of records");
		fz_lerror_raise(L, &err);
	}
	r->shared = p;
	r->nshared = n;
}

/*
 * core.records(separator, seed, nblocks, encode [, decode]) -> records.
 * encode() returns the text of a table or, if decode() returns the value of a
 * record, of every result.
 */
static int
records_new(lua_State *L)
{
	const char *separator = luaL_checkstring(L, 1);
	uint64_t seed = (uint64_t)luaL_checkinteger(L, 2);
	lua_Integer nblocks = luaL_checkinteger(L, 3);
	struct lrecords *r;

	luaL_argcheck(
	    L, 0 < nblocks && nblocks <= BLOCKS_MAX, 3, "out of range");
	luaL_checktype(L, 4, LUA_TFUNCTION);
	lua_settop(L, 5);
	r = lua_newuserdatauv(L, sizeof(*r), RECORDS_DECODE);
	*r = (struct lrecords){ .separator = separator[0],
		.seed = fz_seed_mix(seed, 0),
		.encodes = !lua_isnil(L, 5),
		.decodes = !lua_isnil(L, 5) };
	fz_buf_init(&r->out);
	fz_luserdata_set(L, &records_class);
	lua_pushvalue(L, 4);
	lua_setiuservalue(L, -2, RECORDS_ENCODE);
	lua_pushvalue(L, 5);
	lua_setiuservalue(L, -2, RECORDS_DECODE);
	map_positions(L, r, (size_t)nblocks);
	fz_random_find(L, &r->random);
	return 1;
}

static const luaL_Reg methods[] = {
	{ "stepper", records_stepper },
	{ "open", records_open },
	{ "at", records_at },
	{ "has_more", records_has_more },
	{ "again", records_again },
	{ "take", records_take },
	{ "position", records_position },
	{ "clear_position", records_clear_position },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", records_close },
	{ NULL, NULL },
};

static const struct fz_luserdata_class records_class = {
	.name = RECORDS_TYPE, .methods = methods, .metamethods = metamethods
};

int
fz_lrecords_open(lua_State *L)
{
	lua_pushcfunction(L, records_new);
	lua_setfield(L, -2, "records");
	return 0;
}
