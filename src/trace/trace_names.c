#include "trace/trace.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "trace/trace_format.h"

/* Memory for many texts, because malloc would cost more than the texts. */
struct block {
	struct block *next;
	size_t used, size;
	char bytes[];
};

enum { BLOCK_SIZE = 16 << 10, LINE = sizeof(struct fz_trace_name) };

struct fz_trace_names {
	unsigned refs;
	size_t n;
	struct block *blocks;
	struct fz_buf json; /* for members under construction */
	unsigned char *memory;
	struct fz_trace_name *list; /* in `memory`, each in a cache line */
};

struct fz_trace_names *
fz_trace_names_new(size_t n, struct fz_err *err)
{
	struct fz_trace_names *names = calloc(1, sizeof(*names));

	if (names != NULL)
		names->memory = calloc(n + 1, LINE);
	if (names == NULL || names->memory == NULL) {
		free(names);
		fz_err_nomem(err, "the names of a trace");
		return NULL;
	}
	names->refs = 1;
	names->n = n;
	names->list =
	    (void *)(names->memory + LINE - (uintptr_t)names->memory % LINE);
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
	free(names->memory);
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

/* Make the members of an object for the name. 0, or -1: there is no memory. */
static int
make_members(struct fz_trace_names *names, struct fz_trace_name *name)
{
	struct fz_buf *out = &names->json;

	fz_buf_clear(out);
	if (name->stage != NULL) {
		fz_buf_put(out, ",\"stage\":", 9);
		fz_trace_put_string(out, name->stage);
	}
	fz_buf_put(out, ",\"name\":", 8);
	fz_trace_put_string(out, name->name);
	if (out->failed)
		return -1;
	if (out->len <= FZ_TRACE_SHORT)
		memcpy(name->members.few, out->data, out->len);
	else
		name->members.many = keep(names, out->data, out->len);
	if (out->len > FZ_TRACE_SHORT && name->members.many == NULL)
		return -1;
	name->len = out->len;
	return 0;
}

int
fz_trace_names_set(struct fz_trace_names *names, size_t i, const char *stage,
    const char *name, struct fz_err *err)
{
	struct fz_trace_name *at = &names->list[i];
	const char *before = i > 0 ? names->list[i - 1].stage : NULL;

	if (stage != NULL && before != NULL && strcmp(stage, before) == 0)
		at->stage = before;
	else if (stage != NULL)
		at->stage = keep(names, stage, strlen(stage));
	at->name = keep(names, name, strlen(name));
	if (at->name == NULL || (stage != NULL && at->stage == NULL) ||
	    make_members(names, at) != 0)
		return fz_err_nomem(err, "the names of a trace");
	return 0;
}

struct fz_trace_name *
fz_trace_name(struct fz_trace_names *names, uint64_t i)
{
	if (i >= names->n)
		return NULL;
	/* The name is rarely in the processor's cache when an attempt ends. */
	__builtin_prefetch(&names->list[i]);
	return &names->list[i];
}
