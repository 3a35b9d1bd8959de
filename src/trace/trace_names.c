#include "trace/trace.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"
#include "trace/trace_format.h"

/* Memory for many names: one malloc() for each would take longer. */
struct block {
	struct block *next;
	size_t used, size;
	char bytes[];
};

enum {
	BLOCK_SIZE = 16 << 10,
	LINE = sizeof(struct fz_trace_name),
	GROUP = 256 /* number of names that are allocated together */
};

struct fz_trace_names {
	unsigned refs;
	size_t n; /* number of names */
	struct block *blocks;
	struct fz_buf json; /* scratch memory of make_members() */
	/* blocks of GROUP names each. Names never move. */
	unsigned char **groups;
	size_t ngroups, groups_cap;
};

/* Address of the name with index `i`. Each name fills one cache line. */
static struct fz_trace_name *
name_at(const struct fz_trace_names *names, size_t i)
{
	unsigned char *group = names->groups[i / GROUP];

	return (
	    void *)(group + LINE - (uintptr_t)group % LINE + i % GROUP * LINE);
}

struct fz_trace_names *
fz_trace_names_new(struct fz_err *err)
{
	struct fz_trace_names *names = calloc(1, sizeof(*names));

	if (names == NULL) {
		fz_err_nomem(err, "the names of a trace");
		return NULL;
	}
	names->refs = 1;
	fz_buf_init(&names->json);
	return names;
}

struct fz_trace_names *
fz_trace_names_ref(struct fz_trace_names *names)
{
	names->refs++;
	return names;
}

void
fz_trace_names_unref(struct fz_trace_names *names)
{
	if (names == NULL || --names->refs != 0)
		return;
	while (names->blocks != NULL) {
		struct block *block = names->blocks;

		names->blocks = block->next;
		free(block);
	}
	fz_buf_fini(&names->json);
	while (names->ngroups != 0)
		free(names->groups[--names->ngroups]);
	free(names->groups);
	free(names);
}

/* A copy of `len` bytes and a NUL; NULL if there is no memory. */
static char *
keep(struct fz_trace_names *names, const void *bytes, size_t len)
{
	struct block *block = names->blocks;
	char *copy;

	if (block == NULL || block->size - block->used <= len) {
		size_t size = len < BLOCK_SIZE ? BLOCK_SIZE : len + 1;

		block = malloc(sizeof(*block) + size);
		if (block == NULL)
			return NULL;
		block->next = names->blocks;
		block->used = 0;
		block->size = size;
		names->blocks = block;
	}
	copy = block->bytes + block->used;
	memcpy(copy, bytes, len);
	copy[len] = '\0';
	block->used += len + 1;
	return copy;
}

/*
 * Make the JSON members directly if they are short and need no escapes, as most
 * do. Returns whether that was possible.
 */
static bool
put_plain(struct fz_trace_name *name)
{
	size_t nstage = name->stage != NULL ? name->nstage + 11 : 0;
	char *p = name->members.few;

	if (nstage + name->nname + 10 > FZ_TRACE_SHORT ||
	    !fz_trace_is_plain(name->name, name->nname) ||
	    (nstage != 0 && !fz_trace_is_plain(name->stage, name->nstage)))
		return false;
	if (nstage != 0) {
		memcpy(p, ",\"stage\":\"", 10);
		memcpy(p + 10, name->stage, name->nstage);
		p[nstage - 1] = '"';
		p += nstage;
	}
	memcpy(p, ",\"name\":\"", 9);
	memcpy(p + 9, name->name, name->nname);
	p[9 + name->nname] = '"';
	name->len = (uint32_t)nstage + name->nname + 10;
	return true;
}

/* Make the JSON members with stage and name. 0, or -1: there is no memory. */
static int
make_members(struct fz_trace_names *names, struct fz_trace_name *name)
{
	struct fz_buf *out = &names->json;

	if (put_plain(name))
		return 0;
	fz_buf_clear(out);
	if (name->stage != NULL) {
		fz_buf_put(out, ",\"stage\":", 9);
		fz_trace_put_string(out, name->stage, name->nstage);
	}
	fz_buf_put(out, ",\"name\":", 8);
	fz_trace_put_string(out, name->name, name->nname);
	if (out->failed)
		return -1;
	if (out->len <= FZ_TRACE_SHORT)
		memcpy(name->members.few, out->data, out->len);
	else
		name->members.many = keep(names, out->data, out->len);
	if (out->len > FZ_TRACE_SHORT && name->members.many == NULL)
		return -1;
	name->len = (uint32_t)out->len;
	return 0;
}

/* Make room for another name. 0, or -1: there is no memory. */
static int
make_room(struct fz_trace_names *names)
{
	unsigned char **groups;

	if (names->n < names->ngroups * GROUP)
		return 0;
	groups = fz_vec_room(names->groups, &names->groups_cap,
	    names->ngroups + 1, sizeof(*groups));
	if (groups == NULL)
		return -1;
	names->groups = groups;
	groups[names->ngroups] = malloc((GROUP + 1) * LINE);
	if (groups[names->ngroups] == NULL)
		return -1;
	names->ngroups++;
	return 0;
}

/* The bytes of a stage; those of the name before, if equal. NULL: no memory. */
static const char *
keep_stage(struct fz_trace_names *names, struct fz_trace_text stage)
{
	const struct fz_trace_name *before =
	    names->n != 0 ? name_at(names, names->n - 1) : NULL;

	if (before != NULL && before->stage != NULL &&
	    before->nstage == stage.len &&
	    memcmp(before->stage, stage.bytes, stage.len) == 0)
		return before->stage;
	return keep(names, stage.bytes, stage.len);
}

/* Set the name after the last one. 0, or -1: there is no memory. */
static int
set_next(struct fz_trace_names *names, struct fz_trace_text stage,
    struct fz_trace_text name)
{
	struct fz_trace_name *at;

	/* An escape sequence may have six bytes in place of one byte. */
	if (stage.len + name.len > UINT32_MAX / 8 || make_room(names) != 0)
		return -1;
	at = name_at(names, names->n);
	*at = (struct fz_trace_name){ .nstage = (uint32_t)stage.len,
		.nname = (uint32_t)name.len };
	if (stage.bytes != NULL) {
		at->stage = keep_stage(names, stage);
		if (at->stage == NULL)
			return -1;
	}
	at->name = keep(names, name.bytes, name.len);
	return at->name != NULL ? make_members(names, at) : -1;
}

int
fz_trace_names_add(struct fz_trace_names *names, struct fz_trace_text stage,
    struct fz_trace_text name, struct fz_err *err)
{
	if (set_next(names, stage, name) != 0)
		return fz_err_nomem(err, "the names of a trace");
	names->n++;
	return 0;
}

void
fz_trace_names_set_call(struct fz_trace_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		name_at(names, i)->is_call = true;
}

size_t
fz_trace_names_count(const struct fz_trace_names *names)
{
	return names->n;
}

struct fz_trace_name *
fz_trace_name(struct fz_trace_names *names, uint64_t i)
{
	struct fz_trace_name *name;

	if (i >= names->n)
		return NULL;
	/*
	 * Prefetch the name: when an attempt ends, its name is rarely in the
	 * processor's cache.
	 */
	name = name_at(names, i);
	__builtin_prefetch(name);
	return name;
}
