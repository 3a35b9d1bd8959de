#include "value/bytecode.h"

#include <limits.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "value/dump_format.h"

/* Instructions that read a global. */
enum { OP_LOADK = 3, OP_GETUPVAL = 9, OP_GETTABUP = 11, OP_SELF = 20 };
enum { HEADER_SIZES = 12 };

struct reader {
	const unsigned char *p, *end;
	bool failed;
	/*
	 * whether this function, or one around it, reads globals whose names
	 * the bytecode does not show
	 */
	bool all;
	/* the callbacks; NULL: only `visit` is called */
	const struct fz_bytecode_ops *ops;
	void (*visit)(void *ctx, const struct fz_bytecode_function *f);
	void *ctx;
};

/* The parts of one function, as addresses in the dump. */
struct proto {
	const unsigned char *code, *constants, *upvalues;
	size_t ncode, nconstants, nupvalues;
	int env; /* number of the upvalue with the globals; -1: none */
};

static const unsigned char *
skip(struct reader *r, size_t n)
{
	const unsigned char *at = r->p;

	if (r->failed || (size_t)(r->end - r->p) < n) {
		r->failed = true;
		return NULL;
	}
	r->p += n;
	return at;
}

static unsigned
get_byte(struct reader *r)
{
	const unsigned char *at = skip(r, 1);

	return at != NULL ? *at : 0;
}

/*
 * Read a number in groups of 7 bits, the highest group first; the last byte has
 * its highest bit set.
 */
static size_t
get_size(struct reader *r)
{
	size_t n = 0;

	while (!r->failed) {
		unsigned byte = get_byte(r);

		if (n > SIZE_MAX >> 7)
			r->failed = true;
		n = n << 7 | (byte & 0x7f);
		if (byte & 0x80)
			return n;
	}
	return 0;
}

/* Read a string; NULL if it is missing. */
static const unsigned char *
get_string(struct reader *r, size_t *len)
{
	size_t size = get_size(r);

	*len = size != 0 ? size - 1 : 0;
	return size != 0 ? skip(r, size - 1) : NULL;
}

/* Read one constant. Returns its bytes if it is a string, else NULL. */
static const unsigned char *
get_constant(struct reader *r, size_t *len)
{
	*len = 0;
	switch (get_byte(r)) {
	case FZ_DUMP_INTEGER:
		skip(r, sizeof(lua_Integer));
		return NULL;
	case FZ_DUMP_NUMBER:
		skip(r, sizeof(lua_Number));
		return NULL;
	case FZ_DUMP_SHORT:
	case FZ_DUMP_LONG:
		return get_string(r, len);
	default:
		return NULL;
	}
}

/* Constant number `k` of the function if it is a string, else NULL. */
static const unsigned char *
string_constant(
    const struct reader *r, const struct proto *proto, size_t k, size_t *len)
{
	struct reader at = { proto->constants, r->end, false, false, NULL, NULL,
		NULL };
	const unsigned char *s = NULL;

	if (k >= proto->nconstants)
		return NULL;
	for (size_t i = 0; i <= k; i++)
		s = get_constant(&at, len);
	return s;
}

static uint32_t
instruction(const struct proto *proto, size_t i)
{
	uint32_t code;

	memcpy(&code, proto->code + i * sizeof(code), sizeof(code));
	return code;
}

static unsigned
operation(uint32_t code)
{
	return code & 0x7f;
}

/* Report all strings of the function as possible names of globals. */
static void
add_all(const struct reader *r, const struct proto *proto)
{
	struct reader at = { proto->constants, r->end, false, false, NULL, NULL,
		NULL };

	for (size_t i = 0; i < proto->nconstants; i++) {
		size_t len;
		const unsigned char *s = get_constant(&at, &len);

		if (s != NULL)
			r->ops->global(r->ctx, (const char *)s, len, true);
	}
}

/* If the global that was just read is `require`, report its argument. */
static void
add_module(const struct reader *r, const struct proto *proto, size_t i)
{
	const unsigned char *s;
	uint32_t code;
	size_t len;

	if (i >= proto->ncode)
		return;
	code = instruction(proto, i);
	if (operation(code) != OP_LOADK)
		return;
	s = string_constant(r, proto, code >> 15, &len);
	if (s != NULL)
		r->ops->module(r->ctx, (const char *)s, len);
}

static void
add_global(struct reader *r, const struct proto *proto, size_t i)
{
	size_t len;
	const unsigned char *s =
	    string_constant(r, proto, instruction(proto, i) >> 24, &len);

	if (s == NULL)
		return;
	r->ops->global(r->ctx, (const char *)s, len, false);
	if (len == 7 && memcmp(s, "require", 7) == 0)
		add_module(r, proto, i + 1);
	if (len == 2 && memcmp(s, "_G", 2) == 0)
		r->all = true;
}

static void
add_globals(struct reader *r, const struct proto *proto)
{
	bool method = false;

	for (size_t i = 0; i < proto->ncode; i++) {
		uint32_t code = instruction(proto, i);
		int b = (int)(code >> 16 & 0xff);

		if (operation(code) == OP_SELF && !method) {
			method = true;
			r->ops->module(r->ctx, "string", 6);
		}
		if (b != proto->env)
			continue;
		if (operation(code) == OP_GETTABUP)
			add_global(r, proto, i);
		else if (operation(code) == OP_GETUPVAL)
			r->all = true;
	}
	if (r->all)
		add_all(r, proto);
}

/*
 * The number of the inner function's upvalue that is upvalue `env` of the outer
 * one; -1 if there is none.
 */
static int
inner_env(const struct proto *inner, int env)
{
	for (size_t i = 0; i < inner->nupvalues && env >= 0; i++) {
		const unsigned char *u = inner->upvalues + i * FZ_DUMP_UPVALUE;

		if (u[0] == 0 && u[1] == env)
			return (int)i;
	}
	return -1;
}

static void
get_debug(struct reader *r)
{
	size_t len;

	skip(r, get_size(r));
	for (size_t n = get_size(r); n > 0 && !r->failed; n--) {
		get_size(r);
		get_size(r);
	}
	for (size_t n = get_size(r); n > 0 && !r->failed; n--) {
		get_string(r, &len);
		get_size(r);
		get_size(r);
	}
	for (size_t n = get_size(r); n > 0 && !r->failed; n--)
		get_string(r, &len);
}

/*
 * Report the code of the function and the globals that it reads. For the
 * outermost function the origins of its upvalues are left out, because the
 * functions around it are gone.
 */
static void
report_code(struct reader *r, const struct proto *proto,
    const unsigned char *from, bool inner)
{
	const unsigned char *end = inner ? r->p : proto->upvalues;

	if (r->ops == NULL)
		return;
	r->ops->code(r->ctx, from, (size_t)(end - from));
	add_globals(r, proto);
}

/* Read the number of inner functions, and report it as code. */
static size_t
get_inner(struct reader *r)
{
	const unsigned char *from = r->p;
	size_t n = get_size(r);

	if (r->ops != NULL)
		r->ops->code(r->ctx, from, (size_t)(r->p - from));
	return n;
}

/* Read the source and the first line. The body begins between them. */
static void
get_source(struct reader *r, struct fz_bytecode_function *f)
{
	f->source = (const char *)get_string(r, &f->source_len);
	f->body = r->p;
	f->line = get_size(r);
}

static void
get_constants(struct reader *r, struct proto *proto)
{
	size_t len;

	proto->nconstants = get_size(r);
	proto->constants = r->p;
	for (size_t i = 0; i < proto->nconstants && !r->failed; i++)
		get_constant(r, &len);
}

static void
get_upvalues(struct reader *r, struct proto *proto)
{
	proto->nupvalues = get_size(r);
	if (proto->nupvalues > UCHAR_MAX)
		r->failed = true;
	proto->upvalues = skip(r, proto->nupvalues * FZ_DUMP_UPVALUE);
}

/*
 * Read a function. The globals are upvalue `around` of the function around it.
 */
static void
get_function(struct reader *r, int around, bool inner)
{
	struct proto proto = { .env = -1 };
	struct fz_bytecode_function f;
	const unsigned char *from;

	get_source(r, &f);
	get_size(r); /* the last line of the function */
	from = r->p;
	/* number of parameters, whether it is variadic, size of the stack */
	skip(r, 3);
	proto.ncode = get_size(r);
	if (proto.ncode > SIZE_MAX / sizeof(uint32_t))
		r->failed = true;
	proto.code = skip(r, proto.ncode * sizeof(uint32_t));
	get_constants(r, &proto);
	get_upvalues(r, &proto);
	if (r->failed)
		return;
	proto.env = inner ? inner_env(&proto, around) : around;
	report_code(r, &proto, from, inner);
	for (size_t n = get_inner(r); n > 0 && !r->failed; n--)
		get_function(r, proto.env, true);
	get_debug(r);
	f.nupvalues = (unsigned char)proto.nupvalues;
	f.len = (size_t)(r->p - f.body);
	if (r->visit != NULL && !r->failed)
		r->visit(r->ctx, &f);
}

/*
 * Skip the head and the number of upvalues. NULL if the dump is not of this
 * Lua.
 */
static const unsigned char *
get_head(struct reader *r)
{
	const unsigned char *head = skip(r, FZ_BYTECODE_HEAD + 1);

	if (head == NULL || memcmp(head, LUA_SIGNATURE "\x54\0", 6) != 0 ||
	    head[HEADER_SIZES] != sizeof(uint32_t) ||
	    head[HEADER_SIZES + 1] != sizeof(lua_Integer) ||
	    head[HEADER_SIZES + 2] != sizeof(lua_Number))
		return NULL;
	return head;
}

static struct reader
reader_of(const void *dump, size_t len)
{
	return (struct reader){ .p = dump,
		.end = (const unsigned char *)dump + len };
}

bool
fz_bytecode_read(const void *dump, size_t len, int env, bool all,
    const struct fz_bytecode_ops *ops, void *ctx)
{
	struct reader r = reader_of(dump, len);

	r.all = all;
	r.ops = ops;
	r.ctx = ctx;
	if (get_head(&r) == NULL)
		return false;
	get_function(&r, env, false);
	return !r.failed;
}

bool
fz_bytecode_outer(const void *dump, size_t len, struct fz_bytecode_function *f)
{
	struct reader r = reader_of(dump, len);
	const unsigned char *head = get_head(&r);

	if (head == NULL)
		return false;
	get_source(&r, f);
	f->nupvalues = head[FZ_BYTECODE_HEAD];
	f->len = (size_t)(r.end - f->body);
	return !r.failed;
}

bool
fz_bytecode_each(const void *dump, size_t len,
    void (*visit)(void *ctx, const struct fz_bytecode_function *f), void *ctx)
{
	struct reader r = reader_of(dump, len);

	r.visit = visit;
	r.ctx = ctx;
	if (get_head(&r) == NULL)
		return false;
	get_function(&r, -1, false);
	return !r.failed;
}

int
fz_bytecode_write(lua_State *L, const void *bytes, size_t len, void *buf)
{
	(void)L;
	fz_buf_put(buf, bytes, len);
	return ((struct fz_buf *)buf)->failed;
}
