#include "bind/jobs/lresults.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/err.h"
#include "base/hash.h"
#include "bind/jobs/lblob.h"
#include "bind/ldatabase.h"
#include "bind/lloop.h"
#include "bind/open.h"
#include "codec/format.h"
#include "codec/plain.h"
#include "os/process.h"
#include "shared/arena.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "wire/blob.h"
#include "worker/engine.h"

#define RESULTS_TYPE "fzlua.Results"

static const struct fz_luserdata_class results_class;

struct lresults {
	struct fz_engine *engine;
	/* generation (fz_process) of the process that read the values */
	uint32_t generation;
	lua_Integer n;
	/* array of `n` values; NULL for a value that was not read */
	struct fz_blob *values[];
};

/* Columns of a row that the statement of results() returns. */
enum { KEY, FILES, TICK, INDEX, DIGEST, SUM, RAW, BYTES, NCOLUMNS };

/*
 * Stack indexes in results(): the arguments (A_), the memory for the calls, and
 * the results (R_).
 */
enum {
	A_DATABASE = 1,
	A_SQL,
	A_KEYS,
	A_COUNTS,
	A_SINCE,
	A_USED,
	CALLS, /* memory for the calls */
	R_RESULTS,
	R_PLACES,
	R_DIGESTS,
	R_ODD
};

static const char incomplete[] = "it is incomplete";

/* One call of those that results() reads. */
struct call {
	const char *key; /* in the list of keys; NULL: none */
	size_t len;
	lua_Integer first; /* index of its first value, from 0 */
	lua_Integer count; /* number of values that the call must have */
	lua_Integer seen;  /* number of values that were read */
	lua_Integer tick;
	bool there;
	/* whether decoding shows if the values are those that were recorded */
	bool doubtful;
	const char *why; /* why the call cannot be read; NULL: it can be read */
};

struct reading {
	struct fz_ldatabase *ld;
	sqlite3_stmt *stmt;
	struct lresults *results;
	lua_Integer ncalls;
	struct call *calls;
	struct call **sorted; /* the calls that have a key, sorted by key */
	int nsorted;
	lua_Integer since; /* uses from this run on need not be noted */
	lua_Integer nused; /* length of the list `used` */
	struct fz_err err;
};

static const void *
column(const struct reading *r, int i, size_t *len)
{
	const void *bytes = r->ld->s.column_blob(r->stmt, i);

	*len = bytes != NULL ? (size_t)r->ld->s.column_bytes(r->stmt, i) : 0;
	return bytes != NULL ? bytes : "";
}

/*
 * Make a blob of `len` bytes, and set `*at` to the address of the bytes. Large
 * values are in the arena, like the values from workers. Returns NULL and sets
 * r->err on failure.
 */
static struct fz_blob *
make_blob(struct reading *r, size_t len, void **at)
{
	struct fz_engine *engine = r->results->engine;
	struct fz_arena *arena =
	    len > FZ_ENGINE_BULK ? fz_engine_arena(engine) : NULL;
	struct fz_blob *blob;
	uint64_t offset;

	*at =
	    arena != NULL ? fz_arena_alloc(arena, len, &offset, &r->err) : NULL;
	if (*at != NULL)
		return fz_engine_blob(engine, offset, len, &r->err);
	blob = fz_blob_new(NULL, len, &r->err);
	if (blob != NULL)
		*at = blob->bytes;
	return blob;
}

/*
 * Expand a value. On failure, returns NULL and sets either `*why` or r->err.
 * `size` is not trusted, because the file may come from another machine.
 */
static struct fz_blob *
expand(struct reading *r, const void *bytes, size_t len, lua_Integer size,
    void **at, const char **why)
{
	struct fz_zstd *z = &r->ld->z;
	struct fz_blob *blob;

	if (z->library == NULL && fz_zstd_init(z, &r->err) != 0) {
		*why = r->err.text;
		return NULL;
	}
	*why = "it cannot be decompressed";
	if (size < 0 || !fz_zstd_reaches(len, (size_t)size))
		return NULL;
	blob = make_blob(r, (size_t)size, at);
	if (blob == NULL) {
		*why = NULL;
		return NULL;
	}
	if (fz_zstd_expand(z, *at, (size_t)size, bytes, len)) {
		*why = NULL;
		return blob;
	}
	fz_blob_unref(blob);
	return NULL;
}

/* Whether a value contains functions; the file may come from elsewhere. */
static bool
has_functions(const unsigned char *bytes, size_t len)
{
	return len < 2 || (bytes[1] & FZ_FORMAT_HAS_FUNCTIONS) != 0;
}

/* What the checksum of a row says of it. */
enum row_state {
	ROW_CHANGED, /* it is not as it was written */
	ROW_WHOLE,
	ROW_PLAIN /* it is whole, and fz_plain_is() was true for the value */
};

/*
 * The checksum covers the bytes, the place of the value, because a damaged
 * index leads to the row of another one, and whether the value is plain. A row
 * of an earlier build has the hash of the bytes alone.
 */
static enum row_state
row_state(const struct reading *r, const struct call *call)
{
	enum {
		PLACE = 2 * FZ_HASH_BYTES,
		NUMBERS = 3 * FZ_HASH_BYTES,
		END = NUMBERS + 16
	};
	unsigned char all[END + 1], hash[FZ_HASH_BYTES];
	size_t len, nsum, ndigest;
	const void *bytes = column(r, BYTES, &len), *sum, *digest;

	fz_hash_bytes(bytes, len, all);
	sum = column(r, SUM, &nsum);
	if (nsum != FZ_HASH_BYTES)
		return ROW_CHANGED;
	if (memcmp(all, sum, nsum) == 0)
		return ROW_WHOLE;
	digest = column(r, DIGEST, &ndigest);
	if (call->len != FZ_HASH_BYTES || ndigest != FZ_HASH_BYTES)
		return ROW_CHANGED;
	memcpy(all + FZ_HASH_BYTES, call->key, FZ_HASH_BYTES);
	memcpy(all + PLACE, digest, FZ_HASH_BYTES);
	fz_le64_store(
	    all + NUMBERS, (uint64_t)r->ld->s.column_int64(r->stmt, INDEX));
	fz_le64_store(
	    all + NUMBERS + 8, (uint64_t)r->ld->s.column_int64(r->stmt, RAW));
	all[END] = 'p';
	fz_hash_bytes(all, END + 1, hash);
	if (memcmp(hash, sum, sizeof(hash)) == 0)
		return ROW_PLAIN;
	fz_hash_bytes(all, END, hash);
	return memcmp(hash, sum, sizeof(hash)) == 0 ? ROW_WHOLE : ROW_CHANGED;
}

/*
 * The value of the row of a call; NULL, and `*why` or r->err, on failure. Notes
 * if the bytes may not be those of a value.
 */
static struct fz_blob *
read_value(struct reading *r, struct call *call, const char **why)
{
	lua_Integer raw = r->ld->s.column_int64(r->stmt, RAW);
	enum row_state state = row_state(r, call);
	struct fz_blob *blob;
	const void *bytes;
	size_t len;
	void *at;

	if (state == ROW_CHANGED) {
		*why = "its bytes have changed";
		return NULL;
	}
	bytes = column(r, BYTES, &len);
	if (raw != 0) {
		blob = expand(r, bytes, len, raw, &at, why);
	} else {
		blob = make_blob(r, len, &at);
		if (blob != NULL)
			memcpy(at, bytes, len);
	}
	if (blob == NULL)
		return NULL;
	if (!has_functions(at, blob->len)) {
		if (state != ROW_PLAIN && !fz_plain_is(at, blob->len))
			call->doubtful = true;
		return blob;
	}
	*why = "it contains functions";
	fz_blob_unref(blob);
	return NULL;
}

static void
read_row(lua_State *L, struct reading *r, struct call *call)
{
	const struct fz_sqlite *s = &r->ld->s;
	lua_Integer i = s->column_int64(r->stmt, INDEX), at;
	struct fz_blob **value;
	const char *why = NULL;
	const void *digest;
	size_t len;

	call->there = true;
	if (s->column_int64(r->stmt, FILES) != 0)
		call->doubtful = true;
	call->tick = s->column_int64(r->stmt, TICK);
	if (i < 1 || i > call->count) { /* i is 0 if the row has no value */
		call->why = incomplete;
		return;
	}
	at = call->first + i;
	value = &r->results->values[at - 1];
	if (*value != NULL)
		return; /* the row came twice: the index is damaged */
	*value = read_value(r, call, &why);
	if (*value == NULL && why == NULL)
		fz_lerror_raise(L, &r->err);
	if (*value == NULL)
		call->why = why;
	digest = column(r, DIGEST, &len);
	lua_pushlstring(L, digest, len);
	lua_rawseti(L, R_DIGESTS, at);
	call->seen++;
}

static int
compare(const struct call *a, const struct call *b)
{
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	return memcmp(a->key, b->key, a->len);
}

static int
compare_calls(const void *a, const void *b)
{
	return compare(*(struct call *const *)a, *(struct call *const *)b);
}

/* The first call that has the key of the current row, or NULL. */
static struct call *
call_of_row(const struct reading *r)
{
	struct call wanted = { .key = NULL };
	int low = 0, high = r->nsorted;

	wanted.key = column(r, KEY, &wanted.len);
	while (low < high) {
		int middle = low + (high - low) / 2;

		if (compare(r->sorted[middle], &wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == r->nsorted || compare(r->sorted[low], &wanted) != 0)
		return NULL;
	return r->sorted[low];
}

/*
 * Read several of the sorted calls, from number `from` on: one for each
 * parameter of the statement. If fewer calls are left, the remaining parameters
 * are set to the key of the last call.
 */
static void
read_some(lua_State *L, struct reading *r, int from, int nparameters)
{
	const struct fz_sqlite *s = &r->ld->s;
	int rc = SQLITE_OK;

	for (int i = 0; i < nparameters && rc == SQLITE_OK; i++) {
		int k = from + i < r->nsorted ? from + i : r->nsorted - 1;

		rc = s->bind_blob64(r->stmt, i + 1, r->sorted[k]->key,
		    r->sorted[k]->len, SQLITE_STATIC);
	}
	if (rc != SQLITE_OK) {
		fz_err_set(&r->err, FZ_ERR_ERROR, "%s", s->errstr(rc));
		r->err.code = rc;
		fz_ldatabase_raise(L, &r->err);
	}
	while ((rc = fz_sqlite_step(s, r->stmt, &r->err)) == 1) {
		struct call *call = call_of_row(r);

		if (call != NULL)
			read_row(L, r, call);
	}
	if (rc != 0)
		fz_ldatabase_raise(L, &r->err);
	s->reset(r->stmt);
}

/* Set odd[k] to the value on top. [-1] */
static void
set_odd(lua_State *L, lua_Integer k)
{
	if (lua_isnil(L, R_ODD)) {
		lua_newtable(L);
		lua_replace(L, R_ODD);
	}
	lua_rawseti(L, R_ODD, k);
}

/* Set the results of call number `k`. All its rows were read. */
static void
end_call(
    lua_State *L, struct reading *r, const struct call *call, lua_Integer k)
{
	const char *why = call->why;

	if (call->there && why == NULL && call->seen != call->count)
		why = incomplete;
	if (call->there && why == NULL)
		lua_pushinteger(L, call->first + 1);
	else
		lua_pushboolean(L, 0);
	lua_rawseti(L, R_PLACES, k);
	if (why != NULL) {
		lua_pushstring(L, why);
		set_odd(L, k);
	} else if (call->there && call->doubtful) {
		lua_pushinteger(L, call->tick);
		set_odd(L, k);
	} else if (call->there && call->tick < r->since) {
		lua_rawgeti(L, A_KEYS, k);
		lua_rawseti(L, A_USED, ++r->nused);
	}
}

/* The number of values that call number `k` must have. */
static lua_Integer
count_of(lua_State *L, lua_Integer k)
{
	lua_Integer count;

	if (lua_isinteger(L, A_COUNTS))
		return lua_tointeger(L, A_COUNTS);
	lua_rawgeti(L, A_COUNTS, k);
	count = lua_tointeger(L, -1);
	lua_pop(L, 1);
	return count;
}

/*
 * read_calls(the stack of results(), reading). Called protected, so that the
 * caller can reset the statement after an error.
 */
static int
read_calls(lua_State *L)
{
	struct reading *r = lua_touserdata(L, -1);
	int nparameters = r->ld->s.bind_parameter_count(r->stmt);

	lua_settop(L, R_ODD);
	luaL_checkstack(L, 10, NULL);
	for (int i = 0; i < r->nsorted; i += nparameters)
		read_some(L, r, i, nparameters);
	/* Of several calls with one key, only the first was read. */
	for (int i = 1; i < r->nsorted; i++) {
		if (compare(r->sorted[i - 1], r->sorted[i]) == 0)
			*r->sorted[i] = *r->sorted[i - 1];
	}
	for (lua_Integer k = 1; k <= r->ncalls; k++)
		end_call(L, r, &r->calls[k - 1], k);
	return 4;
}

/* Push an object with room for all values. Returns their number. */
static lua_Integer
push_results(lua_State *L, struct reading *r)
{
	lua_Integer sum = 0;
	struct lresults *results;

	for (lua_Integer k = 1; k <= r->ncalls; k++) {
		lua_Integer count = count_of(L, k);

		luaL_argcheck(
		    L, 0 <= count && count < 1 << 24, A_COUNTS, "out of range");
		r->calls[k - 1].first = sum;
		r->calls[k - 1].count = count;
		sum += count;
	}
	results = lua_newuserdatauv(
	    L, sizeof(*results) + (size_t)sum * sizeof(struct fz_blob *), 0);
	memset(results->values, 0, (size_t)sum * sizeof(struct fz_blob *));
	results->engine = fz_lloop_engine(L);
	results->generation = fz_process.generation;
	results->n = sum;
	fz_luserdata_set(L, &results_class);
	r->results = results;
	return sum;
}

/* Push the memory for all calls. Sorts the calls that have a key. */
static void
push_calls(lua_State *L, struct reading *r)
{
	lua_Unsigned n = lua_rawlen(L, A_KEYS);
	size_t size = sizeof(*r->calls) + sizeof(struct call *);

	luaL_argcheck(L, n < 1 << 24, A_KEYS, "too many keys");
	r->ncalls = (lua_Integer)n;
	r->calls = lua_newuserdatauv(L, n * size, 0);
	r->sorted = (void *)(r->calls + n);
	for (lua_Unsigned k = 0; k < n; k++) {
		struct call *call = &r->calls[k];

		memset(call, 0, sizeof(*call));
		lua_rawgeti(L, A_KEYS, (lua_Integer)k + 1);
		if (lua_type(L, -1) == LUA_TSTRING) {
			call->key = lua_tolstring(L, -1, &call->len);
			r->sorted[r->nsorted++] = call;
		}
		lua_pop(L, 1);
	}
	qsort(r->sorted, (size_t)r->nsorted, sizeof(struct call *),
	    compare_calls);
}

/*
 * core.results(database, sql, keys, counts, since, used) -> results, places,
 * digests, odd
 *
 * Read the calls with these keys, of which some may be false. The parameters of
 * the statement are keys. Call number k has `counts` values, or counts[k].
 * places[k] is the number of its first value in `results`, and of its first
 * digest; false: it is not recorded. odd[k] is the reason why the call cannot
 * be read or, if only decoding shows whether its values can be used, the run
 * that used it last; `odd` may be nil. The keys of all other calls that were
 * last used before the run `since` are appended to `used`.
 */
static int
results_new(lua_State *L)
{
	struct reading r = { .ld = fz_ldatabase_check(L) };
	lua_Integer nvalues;
	int status;

	luaL_checktype(L, A_KEYS, LUA_TTABLE);
	if (!lua_isinteger(L, A_COUNTS))
		luaL_checktype(L, A_COUNTS, LUA_TTABLE);
	r.since = luaL_checkinteger(L, A_SINCE);
	luaL_checktype(L, A_USED, LUA_TTABLE);
	lua_settop(L, A_USED);
	r.nused = (lua_Integer)lua_rawlen(L, A_USED);
	r.stmt = fz_ldatabase_statement(L, r.ld);
	luaL_argcheck(L,
	    r.ld->s.column_count(r.stmt) == NCOLUMNS &&
		r.ld->s.bind_parameter_count(r.stmt) > 0,
	    A_SQL, "a statement with other columns or parameters expected");
	push_calls(L, &r);
	nvalues = push_results(L, &r);
	lua_createtable(L, (int)r.ncalls, 0);
	lua_createtable(L, (int)nvalues, 0);
	lua_pushnil(L);
	lua_pushcfunction(L, read_calls);
	lua_insert(L, 1);
	lua_pushlightuserdata(L, &r);
	status = lua_pcall(L, R_ODD + 1, 4, 0);
	r.ld->s.reset(r.stmt);
	r.ld->s.clear_bindings(r.stmt);
	return status == LUA_OK ? 4 : lua_error(L);
}

/* Whether this process has read the values. If so, they are in its arena. */
static bool
is_own(const struct lresults *results)
{
	return results->generation == fz_process.generation;
}

/* The results at `idx`, which must have `n` values from number `i` on. */
static const struct lresults *
check_results(lua_State *L, int idx, lua_Integer i, uint32_t n)
{
	const struct lresults *results = luaL_checkudata(L, idx, RESULTS_TYPE);
	bool there = is_own(results) && 0 < i && i <= results->n &&
		     n <= results->n - i + 1;

	for (uint32_t k = 0; there && k < n; k++)
		there = results->values[i - 1 + k] != NULL;
	luaL_argcheck(L, there, idx, "no such value");
	return results;
}

struct fz_blob *const *
fz_lresults_refs(lua_State *L, int idx, lua_Integer i, uint32_t n)
{
	struct fz_blob *const *values =
	    &check_results(L, idx, i, n)->values[i - 1];

	for (uint32_t k = 0; k < n; k++)
		fz_blob_ref(values[k]);
	return values;
}

/* results:bytes(i) -> the encoded value */
static int
results_bytes(lua_State *L)
{
	lua_Integer i = luaL_checkinteger(L, 2);
	const struct lresults *results = check_results(L, 1, i, 1);

	if (fz_lblob_push_bytes(L, results->engine, results->values[i - 1]) !=
	    LUA_OK)
		return lua_error(L);
	return 1;
}

/*
 * results:decode(i [, complete]) -> the values of the encoded value; raises if
 * it cannot be decoded. `complete`: also if a class is not registered
 */
static int
results_decode(lua_State *L)
{
	lua_Integer i = luaL_checkinteger(L, 2);
	const struct lresults *results = check_results(L, 1, i, 1);
	int top = lua_gettop(L);

	if (fz_lblob_decode_as(L, results->engine, results->values[i - 1],
		lua_toboolean(L, 3) ? FZ_CODEC_COMPLETE : FZ_CODEC_RECORDED) !=
	    LUA_OK)
		return lua_error(L);
	return lua_gettop(L) - top;
}

/*
 * results:close(): free the values. A second call does nothing. In a forked
 * child this does nothing, because the values are in the arena of the parent.
 */
static int
results_close(lua_State *L)
{
	struct lresults *results = luaL_checkudata(L, 1, RESULTS_TYPE);

	for (lua_Integer i = 0; is_own(results) && i < results->n; i++)
		fz_blob_unref(results->values[i]);
	results->n = 0;
	return 0;
}

/*
 * core.call_key(base, values, digests [, number]) -> 16 bytes | nil, i
 *
 * The key of a call: the hash of `base`, of the digests digests[values[i]] of
 * its inputs, and of `number`. Returns nil and i if a digest is missing.
 */
static int
call_key(lua_State *L)
{
	size_t len;
	const char *bytes = luaL_checklstring(L, 1, &len);
	unsigned char out[FZ_HASH_BYTES], number[8];
	struct fz_hash hash;

	luaL_checktype(L, 2, LUA_TTABLE);
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 4);
	fz_hash_init(&hash);
	fz_hash_add(&hash, bytes, len);
	for (lua_Integer i = 1; lua_rawgeti(L, 2, i) != LUA_TNIL; i++) {
		if (lua_rawget(L, 3) != LUA_TSTRING) {
			lua_pushnil(L);
			lua_pushinteger(L, i);
			return 2;
		}
		bytes = lua_tolstring(L, -1, &len);
		fz_hash_add(&hash, bytes, len);
		lua_settop(L, 4);
	}
	if (!lua_isnil(L, 4)) {
		fz_le64_store(number, (uint64_t)luaL_checkinteger(L, 4));
		fz_hash_add(&hash, number, sizeof(number));
	}
	fz_hash_end(&hash, out);
	lua_pushlstring(L, (const char *)out, sizeof(out));
	return 1;
}

static const luaL_Reg methods[] = {
	{ "bytes", results_bytes },
	{ "decode", results_decode },
	{ "close", results_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", results_close },
	{ "__close", results_close },
	{ NULL, NULL },
};

static const struct fz_luserdata_class results_class = {
	.name = RESULTS_TYPE, .methods = methods, .metamethods = metamethods
};

static const luaL_Reg functions[] = {
	{ "call_key", call_key },
	{ "results", results_new },
	{ NULL, NULL },
};

int
fz_lresults_open(lua_State *L)
{
	luaL_setfuncs(L, functions, 0);
	return 0;
}
